"""Structure learning in a run: it composes with encodings and searched architectures, and its files hold."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import evospike
from evospike.core.errors import SettingsError
from evospike.core.files import load_tensors, save_tensors
from evospike.evolution.records import Genotype, Request
from evospike.jobs.attempt import stand_in_workshop
from evospike.jobs.candidates import score_candidate
from evospike.jobs.conduct import conduct
from evospike.jobs.final import load_weights, train_arm
from evospike.jobs.folder import CONNECTIVITY, WEIGHTS, RunFolder, create_run
from evospike.jobs.genomes import model_of
from evospike.jobs.inspection import dry_run, inspect_recipe
from evospike.jobs.recipe import read_recipe
from evospike.measure.accuracy import evaluate
from evospike.models.network import Network
from evospike.sparse.masks import summarise
from evospike.sparse.picture import coarse
from evospike.sparse.storage import pack_state, unpack_state


def choices(searched: RunFolder, of: tuple[bool, bool, bool]) -> list[str]:
    """Overrides of the tiny recipe that turn a searched architecture, an encoding and structure learning on or off."""
    architecture, genetic, sparse = of
    overrides = ["final.arms=['genetic']", "training.epochs=1"]
    overrides += [f"model.genome={json.dumps(model_of(searched))}"] if architecture else []
    overrides += [] if genetic else ["encoding.kind=dense"]
    return overrides + (["sparse.density=0.3", "sparse.period_epochs=0.25"] if sparse else [])


@pytest.mark.parametrize("of", list(product([False, True], repeat=3)))
def test_everything_composes(workshop, searched, tmp_path: Path, of: tuple[bool, bool, bool]) -> None:
    """Searched, genetic and sparse, on or off: build, train, store, and load to the same outputs."""
    shop = workshop(*choices(searched[0], of))
    run = create_run("train", shop.recipe, str(tmp_path / "run"))
    result = train_arm(shop, run, "genetic", 0, None)
    net = shop.network("genetic", ("final", 0))
    shop.structure(net, shop.recipe.sparse, ("final", 0))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    load_weights(net, run.final_path("genetic", 0))
    assert any(not torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())

    weights = unpack_state(load_tensors(run.final_path("genetic", 0) / WEIGHTS)[0])
    assert all(torch.equal(weights[name], tensor) for name, tensor in net.state_dict().items())
    seen = summarise(net, shop.recipe.sparse)
    assert seen.density == result["density"]
    if of[2]:
        assert sum(layer.active for layer in seen.layers) == round(0.3 * sum(layer.weights for layer in seen.layers))
        assert result["history"][0]["born"] == result["history"][0]["lost"] > 0
    else:
        assert (result["density"], result["structure"]) == (1.0, None)

    again = evaluate(net, shop.batches(shop.task.open_test()))
    assert (again.accuracy, again.loss) == (result["test_accuracy"], result["test_loss"])
    assert again.spikes.layer_rates() == result["layer_rates"]


@pytest.fixture(scope="module")
def compared(tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, dict]:
    """A finished run of all four arms, with stored weights."""
    arms = "final.arms=['sparse','dense','static','one-shot']"
    recipe = tiny(
        "encoding.kind=dense", "sparse.density=0.2", "sparse.period_epochs=0.25", "sparse.one_shot_at=1", arms
    )
    run = create_run("train", recipe, str(tmp_path_factory.mktemp("runs") / "compared"))
    return run, conduct(run, recipe, quiet=True)


def test_arms_keep_to_their_density(compared) -> None:
    run, result = compared
    density = {arm["arm"]: arm["density"] for arm in result["arms"]}
    assert density["dense"] == 1.0
    weights = sum(layer["weights"] for layer in run_result(run, "sparse")["structure"])
    assert density["sparse"] == density["static"] == density["one-shot"] == round(0.2 * weights) / weights
    assert result["density"] == density["sparse"]


def test_only_rewiring_changes_the_graph(compared) -> None:
    run, _ = compared
    born = {arm: [epoch.get("born") for epoch in run_result(run, arm)["history"]] for arm in ("sparse", "static")}
    assert all(count > 0 for count in born["sparse"][:1])
    assert born["static"] == [0.0, 0.0]
    assert "born" not in run_result(run, "dense")["history"][0]
    explored = [epoch["exploration"] for epoch in run_result(run, "sparse")["history"]]
    assert 0.2 < explored[0] <= explored[1] < 1


def test_one_shot_is_the_dense_twin_until_it_is_pruned(compared) -> None:
    """Same seed, same batches: pruning is all that tells them apart, and it keeps the largest weights."""
    run, _ = compared
    dense, pruned = (unpack_state(load_tensors(run.final_path(arm, 0) / WEIGHTS)[0]) for arm in ("dense", "one-shot"))
    for name, mask in pruned.items():
        if name.endswith(".mask"):
            kept, weight = pruned[name.removesuffix("mask") + "weight"], dense[name.removesuffix("mask") + "weight"]
            assert torch.equal(kept[mask], weight[mask])
            assert weight[mask].abs().min() >= weight[~mask].abs().max()


def test_a_sparse_run_loads(compared) -> None:
    run, _ = compared
    trained = evospike.load(run.path)
    assert trained.network.conv2.conv.mask.sum() == trained.network.conv2.conv.weight.count_nonzero()
    assert not hasattr(evospike.load(run.path, arm="dense").network.conv2.conv, "mask")


def test_the_picture_is_of_the_final_masks(compared) -> None:
    run, _ = compared
    layers = {layer["name"]: layer for layer in run_document(run, "sparse", CONNECTIVITY)["layers"]}
    trained = evospike.load(run.path).network
    share = layers["conv2.conv"]["share"]
    assert share == coarse(trained.conv2.conv.mask)
    assert share[1][2] == round(float(trained.conv2.conv.mask[1, 2].double().mean()), 3)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 3), st.integers(0, 2**32))
def test_a_picture_keeps_the_mean(outputs: int, inputs: int, kernel: int, seed: int) -> None:
    mask = torch.rand(outputs, inputs, kernel, kernel, generator=torch.Generator().manual_seed(seed)) < 0.3
    picture = torch.tensor(coarse(mask))
    assert picture.shape == (min(outputs, 32), min(inputs, 32))
    if outputs <= 32 and inputs <= 32:
        assert picture.mean() == pytest.approx(float(mask.double().mean()), abs=1e-3)


def test_candidates_of_an_evolution_are_sparse_too(workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop, seen = workshop("sparse.density=0.3"), []

    def look(net: Network, _batches: object, **_: object) -> SimpleNamespace:
        seen.append(summarise(net, shop.recipe.sparse))
        return SimpleNamespace(loss=1.0, accuracy=0.5)

    monkeypatch.setattr("evospike.jobs.candidates.evaluate", look)
    genotype = Genotype(("log10 spread of encoding", "log10 spread of genes"), (-0.5, -0.5))
    score_candidate(shop, Request("candidate", 0, 0, genotype, ("generation", 0)))
    (only,) = seen
    assert sum(layer.active for layer in only.layers) == round(0.3 * only.weights)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sparse.density=0"], r"'density' must lie in \(0, 1\], given 0"),
        (["sparse.density=1.5"], r"'density' must lie in \(0, 1\], given 1.5"),
        (["final.arms=['static']"], "arm 'static' needs a density below 1"),
        (["sparse.density=0.1", "final.arms=['genetic','sparse']"], "are one network, the recipe's own; name it once"),
        (["sparse.density=0.1", "sparse.period_epochs=7"], "is 7, longer than the training of 2 epochs; lower it"),
        (["sparse.average_decay=1", "sparse.density=0.1"], r"'average_decay' must lie in \[0, 1\), given 1"),
        (["sparse.layers=['classifier']", "sparse.density=0.5"], "expected NAME=DENSITY"),
    ],
)
def test_settings_that_cannot_work(tiny, overrides: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        tiny(*overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sparse.period_epochs=1.8"], r"longer than the part of the training that rewires, the first 0\.75 of its 2"),
        (["sparse.layers=['nosuch=0.3']"], "'sparse.layers' has 'nosuch', which no layer is called"),
        (["sparse.density=0.0001", "sparse.starved=refuse"], "leaves layer 'conv1.conv' without any synapse"),
        (["sparse.freeze=0.05"], r"'sparse.freeze' of 0\.05 leaves no step that rewires"),
        (
            [
                *("sparse.on=encodings", "encoding.kind=shared_tapE", "sparse.layers=['gene_pool*=0.3']"),
                "final.arms=['genetic','low-rank']",  # of which the second has no shared encodings
            ],
            r"^arm 'low-rank': 'sparse.layers' has 'gene_pool\*', which no layer is called",
        ),
    ],
)
def test_a_structure_that_cannot_be_is_refused_before_anything_is_trained(
    tiny, tmp_path: Path, overrides: list[str], message: str
) -> None:
    recipe = tiny("sparse.density=0.3", "final.arms=['dense','genetic']", *overrides)
    run = create_run("train", recipe, str(tmp_path / "run"))
    with pytest.raises(SettingsError, match=message):
        conduct(run, recipe, quiet=True)
    assert not (run.path / "final").exists()
    with pytest.raises(SettingsError, match=message):
        dry_run(recipe, "train")


@pytest.mark.parametrize(
    "overrides",
    [
        ["final.arms=['sparse','one-shot']", "sparse.one_shot_at=1"],
        ["final.arms=['sparse','one-shot']", "sparse.one_shot_at=0.99"],  # of 16 steps, the last one
        ["final.arms=['genetic']", "sparse.method=one_shot", "sparse.one_shot_at=1"],
    ],
)
def test_pruning_after_the_last_epoch_leaves_no_best_one(tiny, overrides: list[str]) -> None:
    given = ["sparse.density=0.3", "training.keep=best", *overrides]
    message = "of one-shot pruning after the last step there are none; lower sparse.one_shot_at from "
    with pytest.raises(SettingsError, match=message):
        dry_run(tiny(*given), "train")
    dry_run(tiny(*given, "training.keep=last"), "train")
    dry_run(tiny(*given, "sparse.one_shot_at=0.9"), "train")
    dry_run(tiny(*given, "final.arms=['dense','static']"), "train")


STARVED = ("sparse.density=0.005", "sparse.allocation=uniform", "final.arms=['genetic']", "training.epochs=1")


def test_layers_that_are_given_a_synapse_are_named_once(tiny, tmp_path: Path, capsys) -> None:
    recipe = tiny(*STARVED)
    told = "notice: density 0.005 leaves conv1.conv, classifier without any synapse; each is given one, "
    for tells in (lambda: dry_run(recipe, "train"), lambda: inspect_recipe(recipe)):
        tells()
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(told)
    run = create_run("train", recipe, str(tmp_path / "run"))
    result = conduct(run, recipe, quiet=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(told)
    fed = [layer["name"] for layer in run_result(run, "genetic")["structure"] if layer["active"] == 1]
    assert {"conv1.conv", "classifier"} <= set(fed)
    assert inspect_recipe(recipe)["density"] == result["density"]


def test_layers_that_have_synapses_are_not_spoken_of(tiny, capsys) -> None:
    dry_run(tiny("sparse.density=0.3"), "train")
    dry_run(tiny(*STARVED, "final.arms=['dense']"), "train")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("verb", ["rank", "search"])
def test_a_density_that_no_architecture_can_have_is_refused_before_any_is_scored(tiny, tmp_path: Path, verb) -> None:
    recipe = tiny("scoring.score=training", "sparse.density=0.00001")
    message = "0 of 8 random architectures can have .*; most often: density 1e-05 gives .* fewer synapses than one each"
    with pytest.raises(SettingsError, match=message):
        dry_run(recipe, verb)
    run = create_run(verb, recipe, str(tmp_path / "run"))
    with pytest.raises(SettingsError, match=message):
        conduct(run, recipe, quiet=True)
    assert not run.store_path.exists()


@pytest.mark.parametrize(
    ("verb", "override", "message"),
    [
        ("evolve", "encoding.kind=dense", "has no initial values to evolve; use train"),
        ("search", "sparse.density=0.5", "scores untrained networks with all their synapses"),
    ],
)
def test_verbs_refuse_what_they_cannot_do(tiny, tmp_path: Path, verb: str, override: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        create_run(verb, tiny(override), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_plan_says_in_which_order_masked_layers_run(workshop) -> None:
    free = workshop("encoding.contraction=two_stage").plan.contractions
    assert set(free.values()) == {"two_stage"}
    masked = workshop("encoding.contraction=two_stage", "sparse.density=0.3", "sparse.layers=['conv3.conv=1']").plan
    assert masked.contractions == {**free, "conv2.conv": "materialise", "conv4.conv": "materialise"}
    masked = workshop("encoding.contraction=two_stage", "sparse.density=0.3", "sparse.on=encodings").plan
    assert masked.contractions == free


def test_inspect_counts_what_is_masked(tiny) -> None:
    weights = inspect_recipe(tiny("sparse.density=0.3", "sparse.layers=['*=0.5']"))
    assert weights["density"] == pytest.approx(0.5, abs=0.01)
    assert all(row["density"] == pytest.approx(0.5, abs=0.03) for row in weights["layers"] if row["macs_per_step"])
    encodings = inspect_recipe(tiny("sparse.density=0.3", "sparse.on=encodings"))
    assert encodings["prunable"] == encodings["encoding_parameters"] + 36 + 80  # and the stored stem and classifier
    assert encodings["connection_density"] is None


def test_files_of_shipped_sparse_recipes_are_small(tmp_path: Path) -> None:
    """A tenth of the synapses: at most 15 % of the dense file, the small networks too."""
    for name in ("digits-sparse", "digits-events-sparse"):
        shop = stand_in_workshop(read_recipe(name), 2)
        sizes = []
        for arm in ("sparse", "dense"):
            net = shop.network(arm, ("final", 0))
            shop.structure(net, shop.arm(arm).sparse, ("final", 0))
            save_tensors(tmp_path / f"{name}-{arm}", pack_state(net.state_dict()), {"arm": arm})
            sizes.append((tmp_path / f"{name}-{arm}").stat().st_size)
        assert sizes[0] <= 0.15 * sizes[1], name


def test_a_period_that_fits_the_final_training_does_not_stop_short_ones(workshop) -> None:
    shop = workshop("sparse.density=0.3", "sparse.period_epochs=1.5")
    genotype = Genotype(("log10 spread of encoding", "log10 spread of genes"), (-0.5, -0.5))
    assert score_candidate(shop, Request("candidate", 0, 0, genotype, ("generation", 0))).status != "error"


def run_document(run: RunFolder, arm: str, name: str) -> dict:
    document = run.read(str(run.final_path(arm, 0).relative_to(run.path) / name))
    assert document is not None
    return document


def run_result(run: RunFolder, arm: str) -> dict:
    return run_document(run, arm, "result.json")


def test_a_loaded_run_offers_sparse_kernels(compared) -> None:
    """Whatever is faster here, the outputs stay."""
    trained = evospike.load(compared[0].path)
    images = torch.rand(1, 1, 8, 8)
    fast, choices = trained.with_sparse_kernels(images)
    x = trained.normalise(images)
    assert [choice.name for choice in choices] == [
        name.removesuffix(".mask") for name in trained.network.state_dict() if name.endswith(".mask")
    ]
    with torch.no_grad():
        torch.testing.assert_close(fast(x), trained(x), rtol=1e-3, atol=1e-4)
    assert fast.network is not trained.network
