"""Cases about genetic encoding, structure learning, search, evolution, data and start-up: what their figures mean."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from evospike.bench.case import OURS, Absent, Circumstances, Contestant, Peer, PeerNeuron
from evospike.bench.cases import evolving, genetic, growing, loading, running, searching, starting, structure
from evospike.bench.cases.evolving import Course, Size, covered
from evospike.bench.cases.networks import Workload
from evospike.bench.cases.structure import StepTimes, real_period, rules, step_times
from evospike.core.errors import RunError
from evospike.data.settings import DataSettings
from evospike.evolution.ledger import Event
from evospike.evolution.records import Request, Score
from evospike.genetic.contraction import contracted_layers
from evospike.genetic.encode import encoded_parameters
from evospike.genetic.settings import EncodingSettings
from evospike.jobs.attempt import stand_in_workshop
from evospike.jobs.recipe import read_recipe
from evospike.models.counts import count_layers
from evospike.models.presets import cifarnet, resnet19w, small8
from evospike.models.spec import NetworkSpec
from evospike.sparse.schedule import make_schedule

IMAGE = (3, 32, 32)


@pytest.fixture
def circumstances(tmp_path: Path) -> Circumstances:
    return Circumstances("cpu", 1, True, str(tmp_path), "", {})


class FakeClock:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


# genetic


@pytest.mark.parametrize("genes", [4, 12, 30])
def test_parameters_are_those_of_the_network_that_is_measured(genes: int) -> None:
    """30 genes make only the wider of both layers smaller."""
    workload = Workload(small8((1, 8, 8), 10, channels=(16, 16, 64)), 1)
    net = genetic.make_network(workload, genes, "eager")
    assert genetic.parameters(workload.spec, genes) == sum(p.numel() for p in net.parameters())
    layers = [layer.factor_shape for _, layer in contracted_layers(net)]
    assert layers == [(64, 144, 30)] if genes == 30 else layers == [(16, 144, genes), (64, 144, genes)]


def test_parameters_of_the_literature() -> None:
    """Methods 3.3 and 3.12, in millions."""
    millions = {genes: genetic.parameters(cifarnet(IMAGE, 10), genes) / 1e6 for genes in (genetic.STORED, 100, 200)}
    assert {genes: round(value, 2) for genes, value in millions.items()} == {
        genetic.STORED: 19.49,
        100: 3.18,
        200: 6.36,
    }
    assert round(genetic.parameters(resnet19w(IMAGE, 10), 100) / 1e6, 2) == 4.33


def test_mac_ratio_counted_by_hand() -> None:
    """One layer of 40 to 40 channels that 5 genes make smaller, between a stem and a classifier that stay stored."""
    spec = small8((1, 4, 4), 10, channels=(40, 40))
    samples, genes = 6, 5
    positions = samples * 16
    stem, layer = positions * 9 * 40, positions * 360 * 40
    classifier = samples * 4 * 0 + samples * 40 * 10
    staged = 40 * genes**2 + positions * genes * (360 + 40)
    built = 40 * genes**2 + 40 * genes * 360 + positions * 360 * 40
    expected = (stem + layer + classifier) / (stem + min(staged, built) + classifier)
    assert genetic.mac_ratio(spec, genes, samples) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "spec"), [("genetic-cifarnet", cifarnet(IMAGE, 10)), ("genetic-resnet19w", resnet19w(IMAGE, 10))]
)
def test_the_ratio_that_a_case_names_is_the_counted_one(name: str, spec: NetworkSpec) -> None:
    about = next(case.about for case in genetic.CASES if case.name == name)
    batch, stated = re.search(r"batch (\d+).*100 genes takes ([\d.]+) times", about).groups()  # type: ignore[union-attr]
    assert float(stated) == round(genetic.mac_ratio(spec, 100, 4 * int(batch)), 2)


def test_only_genes_that_save_parameters_take_part() -> None:
    """14 genes make the layer smaller by 64 numbers, and are 196 by themselves."""
    workload = Workload(small8((1, 8, 8), 10, channels=(16, 16)), 2, 2)
    names = [one.name for one in genetic.our_contestants(workload, (3, 10, 14), "eager")]
    assert names == ["dense", "genetic, 3 genes", "genetic, 10 genes"]


def test_training_step_gives_the_loss_and_leaves_weights_alone() -> None:
    workload = Workload(small8((1, 8, 8), 10, channels=(16, 16)), 4, 2)
    net = genetic.make_network(workload, 5, "eager")
    before = [parameter.detach().clone() for parameter in net.parameters()]
    step = running.training_step_of(net, workload)
    first, second = step(), step()
    assert torch.equal(first, second)
    assert torch.isfinite(first)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in net.parameters())


def test_peers_run_the_dense_network_beside_ours() -> None:
    """Names that targets are computed from; an absent peer keeps its reason."""
    neuron = PeerNeuron("multi-step", lambda steps: torch.nn.Identity())
    peers = {"other": Peer("other", "1.0", (neuron,)), "gone": Absent("gone", "gone", "not installed")}
    made = list(genetic.resnet19w_steps(Circumstances("cpu", 1, False, "", "", peers)))
    assert [one.name for one in made] == ["dense", "genetic, 100 genes", "other: multi-step, channels-last", "gone"]
    assert made[2].by == "other"
    assert made[3] == Absent("gone", "gone", "not installed")


def test_single_layers_all_save_parameters_and_have_names_of_their_own() -> None:
    sizes = list(genetic.layer_sizes())
    assert all(genes * 10 * channels < 9 * channels**2 for channels, _, genes in sizes)
    left_out = {(c, s, g) for c, s in genetic.LAYERS for g in genetic.LAYER_GENES} - set(sizes)
    assert all(genes * 10 * channels >= 9 * channels**2 for channels, _, genes in left_out)
    assert set(genetic.QUICK_LAYERS) <= set(sizes)
    names = [one.name for one in genetic.single_layers(Circumstances("cpu", 1, False, "", "", {}))]
    assert len(set(names)) == len(names) == len(sizes)
    assert "256 channels, side 8, 100 genes" in names


def test_speed_up_is_dense_time_over_genetic_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """With counted operations in the place of a clock it is the ratio of the operations of both layers."""
    monkeypatch.setattr(genetic, "timed", counted)
    ratio = genetic.speed_up(32, 4, 2, 8, "cpu")()
    positions, taps, genes = 8 * 16, 288, 2
    dense = 3 * positions * taps * 32
    staged = 3 * (positions * genes * (taps + 32) + 32 * genes**2)
    assert ratio == pytest.approx(dense / staged, rel=1e-12)


def counted(run: Any, device: str) -> Any:
    """Stands in for `timed`: multiply-accumulates instead of milliseconds."""

    def measure() -> float:
        with FlopCounterMode(display=False) as counter:
            run()
        return counter.get_total_flops() / 2

    return measure


# structure


@given(st.lists(st.floats(0.1, 1e4), min_size=1, max_size=9).map(tuple), st.floats(0.1, 1e4), st.integers(1, 5000))
def test_amortised_is_the_mean_over_a_whole_period(plain: tuple[float, ...], rewiring: float, period: int) -> None:
    whole = [fmean(plain)] * (period - 1) + [rewiring]
    assert StepTimes(plain, rewiring).amortised(period) == pytest.approx(fmean(whole))


def test_real_period_is_that_of_the_full_training() -> None:
    """14 epochs of 375 batches of 128 from 48,000 images; a twentieth of them is less than 4 or 10 epochs."""
    recipe = read_recipe(structure.RECIPE)
    assert {name: real_period(recipe, sparse) for name, sparse in rules().items()} == dict.fromkeys(rules(), 262)
    short = real_period(read_recipe(structure.RECIPE, ["training.epochs=200"]), rules()["random"])
    assert short == 4 * 375


class Paced:
    """A structure whose steps take as many seconds as it says, by moving a clock; it notes which steps rewired."""

    def __init__(self, inner: Any, clock: FakeClock, seconds: dict[bool, float]) -> None:
        self._inner, self._clock, self._seconds = inner, clock, seconds
        self.rewired: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def gradients_ready(self, step: int) -> bool:
        skipped: bool = self._inner.gradients_ready(step)
        self._clock.now += self._seconds[skipped]
        self.rewired += [step] if skipped else []
        return skipped


@pytest.fixture
def tiny_shop() -> Any:
    recipe = read_recipe(
        structure.RECIPE,
        ["training.batch=2", "training.epochs=1", "training.warmup_epochs=0", "model.channels=[4,4,6]"],
    )
    return stand_in_workshop(recipe, 2 * structure.STEPS)


@pytest.mark.parametrize("rule", ["gradient", "momentum", "adam", "random"])
def test_step_times_tell_the_rewiring_step_from_plain_ones(
    tiny_shop: Any, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, made = FakeClock(), []
    attach = type(tiny_shop).structure

    def paced(shop: Any, *arguments: Any) -> Paced:
        made.append(Paced(attach(shop, *arguments), clock, {False: 0.25, True: 2.0}))
        return made[-1]

    monkeypatch.setattr(type(tiny_shop), "structure", paced)
    times = step_times(tiny_shop, rules()[rule], clock)
    assert made[0].rewired == [structure.REWIRED]
    assert times == StepTimes((250.0,) * 3, 2000.0)
    assert times.amortised(262) == pytest.approx((261 * 250 + 2000) / 262)


def test_the_measured_rewiring_is_a_whole_one() -> None:
    """It exchanges as many synapses as the first rewiring of a long training, and is the only one."""
    schedule = make_schedule(structure.rewiring_once(rules()["gradient"]), 1, structure.STEPS)
    assert [step for step in range(structure.STEPS) if schedule.wait(step) == 0] == [structure.REWIRED]
    assert schedule.fraction_at(structure.REWIRED) == rules()["gradient"].fraction


def test_dense_and_static_never_rewire(tiny_shop: Any) -> None:
    ticks = count(0.0, 0.5)
    for rule in ("dense", "static"):
        assert step_times(tiny_shop, rules()[rule], lambda: next(ticks)) == StepTimes((500.0,) * 3, 500.0)


def test_structure_contestants(circumstances: Circumstances) -> None:
    made = list(structure.steps(circumstances))
    assert [one.name for one in made] == ["dense", "static", "gradient", "momentum", "adam", "random"]
    assert {one.settings["density"] for one in made[1:]} == {structure.DENSITY}


# searching


def test_loops_and_products_agree() -> None:
    spikes = (torch.rand(2, 6, 3, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    expected = torch.stack([torch.cdist(step.flatten(1), step.flatten(1), p=1) for step in spikes]).double()
    assert torch.equal(searching.by_products(spikes), expected)
    assert torch.allclose(
        searching.by_loops(spikes).double(), expected, atol=1e-3
    )  # torch adds 1e-6 to each difference


def test_forward_pass_alone_is_the_candidates_own(
    circumstances: Circumstances, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same network under the same initial values sees the same batch: it fires exactly as often."""
    shop = searching.search_workshop("digits-search", 8, circumstances)
    request = searching.random_requests(shop)[1]
    fired, chances = 0.0, 0

    def look(name: str, spikes: Tensor, potential: Tensor) -> None:
        nonlocal fired, chances
        fired, chances = fired + float(spikes.sum()), chances + spikes.numel()

    monkeypatch.setattr(searching, "random_requests", lambda shop: [request])
    monkeypatch.setattr(searching, "_overlook", look)
    (score,) = searching.scores(shop)()  # type: ignore[misc]
    searching.forward_passes(shop)()
    assert fired > 0
    assert score.terms["firing_rate"] == pytest.approx(fired / chances, rel=1e-12)


def test_candidates_repeat_and_differ(circumstances: Circumstances) -> None:
    shop = searching.search_workshop("digits-search", 8, circumstances)
    requests = searching.random_requests(shop)
    assert requests == searching.random_requests(shop)
    assert len({one.genotype for one in requests}) == searching.CANDIDATES


def test_search_contestants(circumstances: Circumstances) -> None:
    made = list(searching.scoring(circumstances))
    (case,) = searching.CASES
    assert [one.name for one in made] == [
        "forward passes alone",
        "score of a candidate",
        "score of a digits candidate",
        "matrices by matrix products",
        "matrices by per-sample loops",
    ]
    assert case.reference in [one.name for one in made]


def test_a_figure_is_the_mean_over_candidates(monkeypatch: pytest.MonkeyPatch, circumstances: Circumstances) -> None:
    monkeypatch.setattr(searching, "timed", lambda run, device: lambda: 7.0)
    score = next(one for one in searching.scoring(circumstances) if one.name == "score of a digits candidate")
    assert score.measure() == 7.0 / searching.CANDIDATES


# evolving


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=12))
def test_covered_counts_every_moment_once(spans: list[tuple[int, int]]) -> None:
    intervals = [(float(start), float(start + length)) for start, length in spans]
    moments = {moment for start, length in spans for moment in range(start, start + length)}
    assert covered(intervals) == len(moments)


def course_of(arrivals: Sequence[tuple[float, float]], started: float, ended: float) -> Course:
    course = Course(started=started, ended=ended)
    course.arrivals = list(arrivals)
    return course


def test_outside_of_a_known_course() -> None:
    """Ten seconds; one worker evaluates 3 + 4 of them, then two evaluate side by side for the last two."""
    alone = course_of([(3.5, 3.0), (8.0, 4.0)], 0.0, 10.0)
    assert alone.outside == pytest.approx(30.0)
    both = course_of([(3.5, 3.0), (8.0, 4.0), (10.0, 2.0), (10.0, 1.5)], 0.0, 10.0)
    assert both.outside == pytest.approx(10.0)
    assert course_of([(5.0, 50.0)], 0.0, 10.0).outside == pytest.approx(50.0)


def test_outside_of_a_followed_evolution(circumstances: Circumstances) -> None:
    """Evaluations of a known length in a real study: 4 s each, 1 s until the next one begins, one worker."""
    recipe, clock = evolving.small_recipe(Size(4, 3, 16), "cpu"), FakeClock()

    def evaluate(requests: Sequence[Request]) -> Iterator[tuple[Request, Score, int]]:
        for request in requests:
            clock.now += 1.0 if request.generation else 1000.0  # processes start in generation 0
            clock.now += 4.0
            terms = {"loss": 1.0 + request.index, "validation_loss": 1.0, "temporal": 0.5, "entropy": 0.5}
            yield request, Score("ok", "", terms, 4.0), 1

    course = evolving.follow(recipe, ["a", "b"], evaluate, Course(clock), circumstances.folder)
    evaluated = 2 * 4 + recipe.evolution.finalist_seeds
    assert len(course.arrivals) == evaluated
    assert course.seconds == pytest.approx(5.0 * evaluated)
    assert course.outside == pytest.approx(20.0)
    assert list(Path(circumstances.folder).iterdir()) == []


def test_events_of_generation_0_do_not_count() -> None:
    clock, request = FakeClock(), None
    course = Course(clock)
    score = Score("ok", "", {}, 7.0)
    course.note(Event("score", 0, 1, 1, request, score))
    clock.now = 110.0
    course.note(Event("generation", 0, 1, 1))
    clock.now = 120.0
    course.note(Event("score", 1, 1, 1, request, score))
    assert (course.started, course.ended, course.arrivals) == (110.0, 120.0, [(120.0, 7.0)])


def test_throughput_is_time_of_one_over_time_of_two(
    monkeypatch: pytest.MonkeyPatch, circumstances: Circumstances
) -> None:
    seconds = {1: 12.0, 2: 7.5}
    monkeypatch.setattr(evolving, "evolve", lambda size, workers, where: course_of([], 3.0, 3.0 + seconds[workers]))
    (two,) = evolving.throughput(circumstances)
    assert (two.name, two.measure()) == ("2 workers", 12.0 / 7.5)
    assert [one.name for one in evolving.overhead(circumstances)] == ["1 worker", "2 workers"]


@pytest.mark.slow
def test_a_real_evolution_in_two_workers(circumstances: Circumstances) -> None:
    course = evolving.evolve(Size(4, 2, 16), 2, circumstances)
    assert len(course.arrivals) == 4 + 2
    assert 0 < course.outside < 100
    assert all(0 < taken < course.ended for _, taken in course.arrivals)


# loading


def test_missing_data_is_said(tmp_path: Path) -> None:
    missing = Circumstances("cpu", 1, False, str(tmp_path), str(tmp_path / "nowhere"), {})
    for case in (loading.first, loading.cached):
        (absent,) = case(missing)
        assert isinstance(absent, Absent)
        assert "nowhere" in absent.reason
        assert "\n" not in absent.reason


def test_first_fills_a_cache_and_cached_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a tiny data set of the same format: the second load decodes nothing."""
    settings = DataSettings(f"parquet:{tiny_parquet(tmp_path / 'tiny')}", validation=0.0)
    monkeypatch.setenv("EVOSPIKE_CACHE", "")
    cache = tmp_path / "cache"
    assert loading.seconds_to_load(settings, str(cache)) > 0
    (kept,) = cache.iterdir()
    assert {"train.npy", "test.npy"} <= {file.name for file in kept.iterdir()}
    monkeypatch.setattr("evospike.data.cache.decode_split", None)
    assert loading.seconds_to_load(settings, str(cache)) > 0
    contestant = loading.if_there(settings, lambda: 1.5)
    assert isinstance(contestant, Contestant)
    assert contestant.measure() == 1.5


def tiny_parquet(folder: Path) -> Path:
    """Twelve images in the layout of CIFAR-10's files."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    folder.mkdir()
    for split in ("train", "test"):
        images = []
        for pixels in np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3), dtype=np.uint8):
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, format="PNG")
            images.append({"bytes": stream.getvalue()})
        pq.write_table(pa.table({"img": images, "label": [0, 1] * 6}), folder / f"{split}-0.parquet")
    return folder


def test_augmentation_share_is_batch_over_step(tiny_shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "timed", lambda run, device: lambda: 4.0 * len(run()))
    monkeypatch.setattr(loading, "step_times", lambda shop, sparse: StepTimes((150.0, 250.0), 999.0))
    assert loading.share_of_step(tiny_shop, "basic")() == pytest.approx(100 * 4.0 / 200.0)


@pytest.mark.parametrize("kind", ["basic", "strong"])
def test_augmentation_makes_batches_of_the_training(tiny_shop: Any, kind: Any) -> None:
    images, labels = loading.augmented_batch(tiny_shop, kind)(0)  # type: ignore[misc]
    assert images.shape == (2, 3, 32, 32)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert len(labels) == 2
    again, _ = loading.augmented_batch(tiny_shop, kind)(0)  # type: ignore[misc]
    other, _ = loading.augmented_batch(tiny_shop, kind)(1)  # type: ignore[misc]
    assert torch.equal(images, again)
    assert not torch.equal(images, other)
    assert loading.share_of_step(tiny_shop, kind)() > 0


# starting


def test_seconds_of_a_process() -> None:
    assert starting.seconds_of([sys.executable, "-c", "import time; time.sleep(0.3)"]) > 0.3
    with pytest.raises(RunError, match="exit code 3"):
        starting.seconds_of([sys.executable, "-c", "raise SystemExit(3)"])


def test_seconds_until_a_file_is_there(tmp_path: Path) -> None:
    """The process is ended once it is; one that ends or dawdles is told of."""
    file, code = tmp_path / "there", "import time, sys; time.sleep({}); open(sys.argv[1], 'w'); time.sleep({})"
    command = [sys.executable, "-c", code.format(0.2, 60), str(file)]
    assert 30 > starting.seconds_until(command, file.exists) > 0.2
    with pytest.raises(RunError, match=r"ended \(exit code 0\) before"):
        starting.seconds_until([sys.executable, "-c", "pass"], lambda: False)
    with pytest.raises(RunError, match=r"within 0\.1 s"):
        starting.seconds_until(command, lambda: False, longest=0.1)


def test_progress_is_seen_after_the_first_step(tmp_path: Path) -> None:
    from evospike.jobs.progress import ProgressFile

    progress = ProgressFile(tmp_path / "final" / "genetic-0")
    assert not starting.has_stepped(tmp_path)
    progress.after_step(1, 50)
    assert starting.has_stepped(tmp_path)


def test_the_training_command_is_one_network_of_the_digits(circumstances: Circumstances, tmp_path: Path) -> None:
    """What the command line reads from it, without running it."""
    from evospike.cli.arguments import make_parser

    command = starting.training_command(tmp_path / "run", circumstances)
    assert tuple(command[:3]) == starting.EVOSPIKE
    given = make_parser().parse_args(command[3:])
    assert (given.command, given.recipe, given.arms, given.output) == (
        "train",
        "digits",
        "genetic",
        str(tmp_path / "run"),
    )
    assert vars(given)["flag.final.seeds"] == 1


# growing


@pytest.mark.parametrize(("make", "values"), [(growing.time_of_steps, (1, 2, 4)), (growing.time_of_batch, (2, 4, 8))])
def test_operations_grow_in_proportion(
    make: Any, values: tuple[int, ...], circumstances: Circumstances, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With counted operations in the place of a clock, time grows with T (but for the image, coded once) and batch."""
    monkeypatch.setattr(growing, "timed", counted)
    monkeypatch.setattr(growing, "SMALL", Workload(growing.networks.vgg_small((2, 3, 4), (3, 8, 8)), 2, 2))
    figures = [make(circumstances, value)() for value in values]
    steps = np.diff(figures) / np.diff(values)
    assert steps[0] > 0
    assert steps[0] == steps[1]


def test_genes_cost_in_proportion(circumstances: Circumstances, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "timed", counted)
    monkeypatch.setattr(growing, "WIDE", Workload(small8((1, 8, 8), 10, channels=(32, 32)), 8, 2))
    few, more, most = (growing.time_of_genes(circumstances, genes)() for genes in (2, 4, 8))
    assert few < more < most


def test_every_gene_count_of_the_curve_makes_all_layers_smaller() -> None:
    (curve,) = [growth for growth in growing.GROWTHS if growth.name == "growth-genes"]
    body = [layer for layer in count_layers(growing.WIDE.spec) if layer.role == "body"]
    for genes in curve.values:
        layers = encoded_parameters(growing.WIDE.spec, EncodingSettings(genes=genes)).layers
        assert [layer.name for layer in layers if layer.kind == "encoded"] == [layer.name for layer in body]


def test_driver_time_is_one_whole_generation(tmp_path: Path) -> None:
    """A clock that ticks when it is read is read once a generation: one tick lies between two of them."""
    ticks = count(0.0, 1.0)
    recipe = read_recipe(growing.SEARCH, flags={"search": growing.search_of(8)})
    assert growing.driver_seconds(recipe, str(tmp_path), lambda: next(ticks)) == 1.0
    assert list(tmp_path.iterdir()) == []


def test_random_scores_differ_and_repeat() -> None:
    from evospike.evolution.records import Genotype

    requests = [Request("candidate", 1, place, Genotype(("a",), (0.0,)), ("search",)) for place in range(4)]
    scores = [score.terms["score"] for _, score, _ in growing.random_scores(requests)]
    assert len(set(scores)) == 4
    assert scores == [score.terms["score"] for _, score, _ in growing.random_scores(requests)]


def test_time_of_workers_is_per_candidate(monkeypatch: pytest.MonkeyPatch, circumstances: Circumstances) -> None:
    monkeypatch.setattr(
        growing, "evolve", lambda size, workers, where: course_of([(1.0, 0.5)] * 10, 0.0, 20.0 / workers)
    )
    assert [growing.time_of_workers(circumstances, workers)() for workers in (1, 2, 4)] == [2000.0, 1000.0, 500.0]


@pytest.mark.slow
def test_memory_grows_with_steps() -> None:
    few, many = (
        growing.training_memory(Workload(growing.networks.vgg_small((16, 16), (3, 16, 16)), 16, steps), 1)()
        for steps in (2, 32)
    )
    assert many > few


@pytest.mark.parametrize(
    "module", [genetic, structure, searching, evolving, loading, starting, growing], ids=lambda one: one.__name__
)
def test_cases_are_well_formed(module: Any, circumstances: Circumstances) -> None:
    for case in getattr(module, "CASES", ()):
        made = list(case.contestants(circumstances))
        names = [one.name for one in made]
        assert len(set(names)) == len(names)
        assert not case.reference or case.reference in names
        assert OURS in {one.by for one in made}
    for growth in getattr(module, "GROWTHS", ()):
        assert list(growth.values) == sorted(set(growth.values))
        assert not growth.quick_values or len(growth.quick_values) >= 3
