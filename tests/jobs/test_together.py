"""Candidates that are trained as one network: scores, failures, the choice in a run's plan, and whole runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import evospike.jobs.candidates as candidates_module
import evospike.jobs.conduct as conduct_module
import evospike.jobs.plan as plan_module
from evospike.core.errors import SettingsError
from evospike.evolution.executors.base import Outcome, Payload
from evospike.evolution.executors.local import WorkerState
from evospike.evolution.records import Genotype, Request, Score
from evospike.evolution.store import Store
from evospike.jobs import workers
from evospike.jobs.brief import proxy_images, train_briefly, train_briefly_together
from evospike.jobs.candidates import dimension_names, score_candidate, score_candidates
from evospike.jobs.conduct import conduct
from evospike.jobs.folder import create_run, open_run
from evospike.jobs.plan import Plan, candidates_together, estimated_bytes, make_plan
from evospike.jobs.pool import pool
from evospike.jobs.worker_file import WorkersFile, read_workers
from evospike.jobs.workshop import Workshop, as_context
from evospike.training.history import without_times
from evospike.training.loop import Diverged

GIGABYTE = 1 << 30


def requests_of(shop, count: int = 3) -> list[Request]:
    """Candidates of one generation, each with its own spreads, and a finalist, which draws from elsewhere."""
    names = tuple(dimension_names(shop))
    genotypes = [Genotype(names, tuple(0.1 * place for _ in names)) for place in range(count)]
    candidates = [Request("candidate", 0, place, one, ("generation", 0)) for place, one in enumerate(genotypes)]
    return [*candidates, Request("finalist", 0, 0, genotypes[0], ("finalist", 1))]


def outcomes(scores: Sequence[Score]) -> list[dict[str, Any]]:
    return [score.outcome() for score in scores]


@pytest.mark.parametrize(
    "settings",
    [
        ("encoding.kind=shared_tapG",),
        ("evolution.entropy_when=before", "model.norm_time=step", "training.clip=0.5"),
        ("evolution.proxy_epochs=2", "encoding.kind=low_rank", "training.loss=tet"),
    ],
    ids=["shared", "stepwise", "low rank"],
)
def test_candidates_scored_together_have_the_scores_they_have_alone(workshop, capsys, settings) -> None:
    shop = workshop(*settings)
    asked = requests_of(shop)
    together = score_candidates(shop, asked)
    assert capsys.readouterr().err == ""
    alone = [score_candidate(shop, one) for one in asked]
    assert [score.status for score in together] == ["ok"] * 4
    for one, other in zip(together, alone, strict=True):
        assert dict(one.terms) == pytest.approx(dict(other.terms), rel=1e-3, abs=1e-5)
    assert len({score.terms["loss"] for score in together}) == 4
    assert outcomes(score_candidates(shop, asked)) == outcomes(together), "to the bit, in the same company"


@dataclass(frozen=True)
class Doubled:
    """A source whose images are in double precision."""

    inner: Any

    def __len__(self) -> int:
        return len(self.inner)

    def order(self, epoch: int) -> np.ndarray:
        return self.inner.order(epoch)

    def batch(self, positions: np.ndarray, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = self.inner.batch(positions, epoch)
        return x.double(), y


def test_a_brief_training_together_is_the_one_alone(workshop) -> None:
    """In double precision: histories, weights and running statistics, with augmented batches under two keys."""
    shop = workshop("evolution.proxy_epochs=2")
    keys = [("generation", 0), ("generation", 0), ("finalist", 1)]
    spreads = [{"encoding": 0.8 + 0.2 * place, "genes": 1.0} for place in range(3)]

    def nets() -> list[Any]:
        return [shop.network("genetic", key, one).double() for key, one in zip(keys, spreads, strict=True)]

    images = proxy_images(shop, 80)
    together, alone = nets(), nets()
    source = Workshop.source
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workshop, "source", lambda *given: Doubled(source(*given)))
        ends = train_briefly_together(together, shop, images, 2, keys)
        expected = [train_briefly(net, shop, images, 2, key) for net, key in zip(alone, keys, strict=True)]
    for end, own in zip(ends, expected, strict=True):
        assert not isinstance(end, Diverged)
        assert without_times(end) == [pytest.approx(record, rel=1e-9) for record in without_times(own)]
    for net, own in zip(together, alone, strict=True):
        assert not net.training
        for name, tensor in own.state_dict().items():
            torch.testing.assert_close(net.state_dict()[name], tensor, rtol=1e-7, atol=1e-9)


def test_one_that_diverges_has_that_status_and_the_others_their_scores(workshop, monkeypatch) -> None:
    shop = workshop()
    asked = requests_of(shop)
    healthy = score_candidates(shop, asked)
    drawn = candidates_module._drawn

    def spoilt(shop, request: Request):
        net = drawn(shop, request)
        if request == asked[1]:
            with torch.no_grad():
                net.get_parameter("classifier.weight")[0, 0] = torch.nan
        return net

    monkeypatch.setattr(candidates_module, "_drawn", spoilt)
    scores = score_candidates(shop, asked)
    alone = score_candidate(shop, asked[1])
    assert (scores[1].status, scores[1].reason, scores[1].terms) == ("diverged", alone.reason, {})
    assert alone.reason.startswith("the loss is not finite at step 0")
    others = [0, 2, 3]
    assert outcomes(scores[k] for k in others) == outcomes(healthy[k] for k in others)


def test_what_cannot_be_trained_together_is_trained_one_after_the_other(workshop, monkeypatch, capsys) -> None:
    shop = workshop()
    asked = requests_of(shop)

    def full(*args: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 3 GiB")

    monkeypatch.setattr(candidates_module, "train_briefly_together", full)
    scores = score_candidates(shop, asked)
    assert capsys.readouterr().err == (
        "notice: 4 candidates are trained one after the other "
        "(OutOfMemoryError: CUDA out of memory. Tried to allocate 3 GiB)\n"
    )
    assert outcomes(scores) == outcomes([score_candidate(shop, one) for one in asked])


def test_memory_that_runs_out_one_after_the_other_too_is_for_the_executor_to_know(workshop, monkeypatch) -> None:
    shop = workshop()

    def full(*args: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(candidates_module, "_drawn", full)
    with pytest.raises(torch.OutOfMemoryError):
        score_candidates(shop, requests_of(shop))


@pytest.mark.parametrize("where", ["_judge", "train_briefly"])
def test_an_error_in_one_does_not_take_the_others_with_it(workshop, monkeypatch, where: str) -> None:
    """Neither after the common training nor where there is none."""
    shop = workshop()
    asked = requests_of(shop)
    healthy = (
        [score_candidate(shop, one) for one in asked] if where == "train_briefly" else score_candidates(shop, asked)
    )
    calls, original = iter(range(4)), getattr(candidates_module, where)

    def failing(*args: Any) -> Any:
        if next(calls) == 2:
            raise ValueError("no\nway")
        return original(*args)

    monkeypatch.setattr(candidates_module, where, failing)
    if where == "train_briefly":
        monkeypatch.setattr(candidates_module, "train_briefly_together", None)  # which cannot be called
    scores = score_candidates(shop, asked)
    assert (scores[2].status, scores[2].reason) == ("error", "ValueError: no way")
    assert outcomes(scores[:2] + scores[3:]) == outcomes(healthy[:2] + healthy[3:])


def test_one_candidate_is_trained_alone_without_a_notice(workshop, capsys) -> None:
    shop = workshop()
    (one, *_) = requests_of(shop)
    assert outcomes(score_candidates(shop, [one])) == outcomes([score_candidate(shop, one)])
    assert capsys.readouterr().err == ""


def test_each_has_its_share_of_the_common_training(workshop, monkeypatch) -> None:
    shop = workshop()
    clock = iter([0.0, 8.0, *(10.0, 11.0), *(20.0, 22.0), *(30.0, 30.5), *(40.0, 40.0)])
    monkeypatch.setattr(candidates_module, "train_briefly_together", lambda nets, *rest: [[{"loss": 1.0}]] * len(nets))
    monkeypatch.setattr(candidates_module.time, "monotonic", lambda: next(clock))
    assert [score.seconds for score in score_candidates(shop, requests_of(shop))] == [3.0, 4.0, 2.5, 2.0]


def test_sparse_networks_are_not_trained_together(workshop) -> None:
    shop = workshop("sparse.density=0.5")
    nets = [shop.network("genetic", ("generation", 0)) for _ in range(2)]
    with pytest.raises(SettingsError, match=r"sparse networks are not trained together; set evolution.together=1"):
        train_briefly_together(nets, shop, proxy_images(shop, 80), 1, [("generation", 0)] * 2)


@pytest.fixture
def choose(tiny, workshop, monkeypatch: pytest.MonkeyPatch):
    """How many are trained together, on a device, of a certain memory where it is a CUDA device."""
    spec = workshop().spec

    def chosen(*overrides: str, device: str = "cuda:0", memory: int = 80 * GIGABYTE) -> int:
        monkeypatch.setattr(plan_module, "device_memory", lambda device: memory)
        return candidates_together(tiny(*overrides), spec, device)

    return chosen


def test_a_gpu_trains_up_to_sixteen_in_groups_as_equal_as_can_be(choose) -> None:
    found = {count: choose(f"evolution.population={count}") for count in (4, 12, 16, 17, 20, 32, 33, 50)}
    assert found == {4: 4, 12: 12, 16: 16, 17: 9, 20: 10, 32: 16, 33: 11, 50: 13}


@pytest.mark.parametrize(("device", "automatic"), [("cuda:1", 12), ("cpu", 1)])
def test_the_recipe_may_say_how_many(choose, device: str, automatic: int) -> None:
    asked = {0: automatic, 1: 1, 3: 3, 12: 12, 1000: 12}
    overrides = {number: ("evolution.population=12", f"evolution.together={number}") for number in asked}
    assert {number: choose(*both, device=device) for number, both in overrides.items()} == asked


def test_a_gpu_with_little_memory_trains_fewer(choose, tiny, workshop) -> None:
    each, _ = estimated_bytes(tiny(), workshop().spec)
    assert choose("evolution.population=12", memory=2 * 4 * each) == 4
    assert choose("evolution.population=12", memory=2 * 5 * each) == 4
    assert choose("evolution.population=12", memory=each) == 1
    assert choose("evolution.population=12", "evolution.together=12", memory=each) == 12


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("sparse.density=0.5", "they are sparse"),
        ("neuron.kind=plif", "the neurons of 'conv1.neuron' learn their decay"),
        ("training.activations=recomputed", "their blocks are computed again for the backward pass"),
    ],
)
def test_what_cannot_be_computed_as_one_is_not(choose, capsys, override: str, reason: str) -> None:
    assert choose(override) == 1
    assert capsys.readouterr().err == ""
    assert choose(override, "evolution.together=4") == 1
    assert capsys.readouterr().err == f"notice: candidates are trained one after the other: {reason}\n"
    assert choose("evolution.mode=random", "evolution.together=4") == 1


def test_the_choice_is_in_the_plan(tiny, workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = workshop("evolution.together=2")
    assert (shop.plan.together, workshop().plan.together) == (2, 1)
    assert Plan.from_plain(shop.plan.to_plain()) == shop.plan
    assert make_plan(shop.recipe, shop.task, evolves=False).together == 1
    monkeypatch.setattr(plan_module, "resolve_device", lambda wanted: "cuda:0")
    monkeypatch.setattr(plan_module, "device_memory", lambda device: 80 * GIGABYTE)
    monkeypatch.setattr(plan_module, "versions", lambda device: {})
    monkeypatch.setattr(plan_module, "require_training_memory", lambda *training, encoded: None)
    assert make_plan(tiny(), shop.task, evolves=True).together == 4


def test_a_plan_of_an_earlier_release_trains_one_after_the_other(workshop) -> None:
    plain = workshop("evolution.together=4").plan.to_plain()
    del plain["together"]
    assert Plan.from_plain(plain).together == 1


def test_a_negative_number_is_refused(tiny) -> None:
    with pytest.raises(SettingsError, match=r"together=-1 is negative; give 0 to let the run decide"):
        tiny("evolution.together=-1")


def test_who_watches_sees_groups(tiny, tmp_path: Path) -> None:
    run = create_run("evolve", tiny(), str(tmp_path / "run"))
    asked = [Request("candidate", 1, k, Genotype(("a",), (0.0,)), ("x",)).to_json() for k in (4, 5, 6)]
    drawn = [Request("finalist", 2, 3, Genotype(("a",), (0.0,)), ("x",)).to_json()]
    WorkersFile(run)([WorkerState(k, True, {"requests": one}, 1, 1e9) for k, one in enumerate((asked, drawn))])
    assert [line.doing for line in read_workers(run)] == ["generation 2, candidates 5 to 7", "generation 3, finalist 4"]


def test_a_group_has_the_time_of_its_candidates(workshop, tmp_path: Path) -> None:
    shop = workshop("evolution.together=3", "run.candidate_minutes=2")
    run = create_run("evolve", shop.recipe, str(tmp_path / "run"))
    limits = {name: pool(shop, run, name)._limit_s for name in ("score", "score_together", "train")}
    assert limits == {"score": 120.0, "score_together": 360.0, "train": 0.0}


class Here:
    """An executor in this process. left: payloads after which it is killed."""

    def __init__(self, function: str, context: dict[str, Any], left: Iterator[int] | None) -> None:
        self.function, self.context, self.left = getattr(workers, function), context, left

    def run(self, payloads: Sequence[Payload], check: Any = None) -> Iterator[tuple[int, Outcome]]:
        for index, payload in enumerate(payloads):
            if self.left is not None and next(self.left, None) is None:
                raise Killed
            yield index, Outcome(self.function(payload, self.context))


class Killed(BaseException):
    """Stands for kill -9."""


@pytest.fixture
def run_here(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Bring a run to its end, or to a kill after so many payloads, its candidates scored in this process."""

    def conducted(name: str, *overrides: str, payloads: int | None = None) -> dict[str, Any]:
        left = None if payloads is None else iter(range(payloads))

        @contextmanager
        def here(shop, run, function: str) -> Iterator[Here]:
            yield Here(function, as_context(shop.recipe, shop.plan, str(run.path)), left)

        monkeypatch.setattr(conduct_module, "pool", here)
        recipe = tiny("final.arms=['genetic']", "training.epochs=1", *overrides)
        run = open_run(tmp_path / name) if (tmp_path / name).exists() else None
        return conduct(run or create_run("evolve", recipe, str(tmp_path / name)), recipe, quiet=True)

    return conducted


def test_a_run_that_trains_candidates_together(run_here, tiny, tmp_path: Path) -> None:
    """Killed after any group it ends as the unbroken one; its scores are those of single candidates up to rounding."""
    one_by_one = run_here("one", "evolution.together=1")
    unbroken = run_here("two", "evolution.together=2")
    for payloads in (1, 3):
        with pytest.raises(Killed):
            run_here(f"killed-{payloads}", "evolution.together=2", payloads=payloads)
        with Store.view(tmp_path / f"killed-{payloads}" / "study.sqlite") as store:
            assert len(store.scores()) == 2 * payloads
        assert run_here(f"killed-{payloads}", "evolution.together=2")["digest"] == unbroken["digest"]
    scores = []
    for name in ("one", "two"):
        with Store.view(tmp_path / name / "study.sqlite") as store:
            scores.append([dict(item.score.terms) for item in store.scores(generation=0, kind="candidate")])
    assert scores[1] == [pytest.approx(terms, rel=1e-3, abs=1e-5) for terms in scores[0]]
    assert unbroken["winner"]["genotype"] == pytest.approx(one_by_one["winner"]["genotype"])
