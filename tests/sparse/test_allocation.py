"""How many synapses each layer gets: the tables of the methods, and properties over any layers."""

from __future__ import annotations

from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evospike.core.errors import SettingsError
from evospike.models.counts import count_layers
from evospike.models.presets import resnet19, vggsnn
from evospike.models.spec import NetworkSpec
from evospike.sparse.allocation import Shape, allocate, connection_density
from evospike.sparse.settings import SparseSettings

LAYERS = {"a": (4, 3, 3, 3), "b": (8, 4, 3, 3), "c": (5, 8)}  # 108 + 288 + 40 weights


def shapes_of(spec: NetworkSpec) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for count in count_layers(spec):
        if count.op == "conv":
            kernel = spec[count.name].integer("kernel")
            shapes[count.name] = (count.output_shape[0], count.input_shape[0], kernel, kernel)
        elif count.op == "linear":
            shapes[count.name] = (count.output_shape[0], count.input_shape[0])
    return shapes


VGGSNN = vggsnn((2, 48, 48), 10, events=True)
RESNET19 = resnet19((3, 32, 32), 10)


@pytest.mark.parametrize(
    ("density", "layers", "millions"),
    [
        (0.10, [1, 0.4750, 0.2339, 0.1553, 0.1161, 0.0772, 0.0772, 0.0772, 1], 0.926),
        (0.05, [1, 0.2247, 0.1107, 0.0735, 0.0549, 0.0365, 0.0365, 0.0365, 1], 0.463),
        (0.50, [1, 1, 1, 0.8449, 0.6312, 0.4200, 0.4200, 0.4200, 1], 4.632),
    ],
)
def test_erk_densities_of_vggsnn_in_methods_5_5(density: float, layers: list[float], millions: float) -> None:
    quotas = allocate(shapes_of(VGGSNN), SparseSettings(density=density))
    assert [round(quota.density, 4) for quota in quotas.values()] == layers
    assert sum(quota.count for quota in quotas.values()) == round(density * 9_263_232)
    assert round(sum(quota.count for quota in quotas.values()) / 1e6, 3) == millions
    for quota in quotas.values():
        assert abs(quota.count - quota.density * quota.weights) < 1
        assert quota.dense == (quota.density == 1)


def test_erk_densities_of_resnet19_in_methods_5_5() -> None:
    quotas = allocate(shapes_of(RESNET19), SparseSettings(density=0.5))
    by_widths: dict[tuple[int, int], set[float]] = {}
    for name, quota in quotas.items():
        if name.startswith(("stage2", "stage3")) and quota.shape[2:] == (3, 3):
            by_widths.setdefault((quota.shape[1], quota.shape[0]), set()).add(round(quota.density, 4))
    assert by_widths == {(128, 256): {1.0}, (256, 256): {0.6663}, (256, 512): {0.4978}, (512, 512): {0.3312}}
    sparse = {name for name, quota in quotas.items() if not quota.dense}
    assert all(quotas[name].shape[1] >= 256 for name in sparse)
    assert not {"stem.conv", "hidden.linear", "classifier"} & sparse
    assert not any("stage1" in name or "shortcut" in name for name in sparse)
    assert round(sum(quota.count for quota in quotas.values()) / 1e6, 3) == 6.310


@pytest.mark.parametrize(("spec", "density", "expected"), [(VGGSNN, 0.10, 0.173), (RESNET19, 0.50, 0.733)])
def test_connection_densities_of_methods_1_8(spec: NetworkSpec, density: float, expected: float) -> None:
    quotas = allocate(shapes_of(spec), SparseSettings(density=density))
    macs = {count.name: count.macs for count in count_layers(spec) if count.macs}
    assert round(connection_density({n: q.count / q.weights for n, q in quotas.items()}, macs), 3) == expected
    assert connection_density(dict.fromkeys(macs, 0.25), macs) == pytest.approx(0.25)


def share(shape: Shape, kind: str) -> float:
    if kind == "uniform":
        return 1.0
    if kind == "er":
        return (shape[0] + prod(shape[1:])) / (shape[0] * prod(shape[1:]))
    return sum(shape) / prod(shape)


layer_shapes = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 5), st.integers(1, 5)),
)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.lists(layer_shapes, min_size=1, max_size=8), st.floats(0.001, 1), st.sampled_from(["erk", "er", "uniform"]))
def test_any_layers_get_the_exact_total_in_proportion_to_their_shares(
    shapes: list[Shape], density: float, kind: str
) -> None:
    layers = {str(i): shape for i, shape in enumerate(shapes)}
    total = round(density * sum(map(prod, shapes)))
    wanted = SparseSettings(density=density, allocation=kind)
    if total < len(shapes):
        with pytest.raises(SettingsError, match=r"fewer synapses than one each|without any synapse"):
            allocate(layers, SparseSettings(density=density, allocation=kind, starved="refuse"))
        with pytest.raises(SettingsError, match="fewer synapses than one each; raise it"):
            allocate(layers, wanted)
        return
    quotas = allocate(layers, wanted)
    assert list(quotas) == list(layers)
    assert sum(quota.count for quota in quotas.values()) == total
    assert all(1 <= quota.count <= quota.weights for quota in quotas.values())
    scales = [quota.density / share(quota.shape, kind) for quota in quotas.values() if quota.density < 1]
    for quota in quotas.values():
        if scales:  # one factor for all that are not full; the full ones would be above 1 with it
            assert quota.density == pytest.approx(min(scales[0] * share(quota.shape, kind), 1), rel=1e-9)
    assert sum(quota.density * quota.weights for quota in quotas.values()) == pytest.approx(total)


def test_the_largest_fractional_parts_get_one_more() -> None:
    layers = {"a": (3, 5), "b": (5, 5), "c": (7, 3)}  # 0.3 of 15, 25, 21: 4.5, 7.5, 6.3 of 18
    counts = allocate(layers, SparseSettings(density=0.3, allocation="uniform"))
    assert {name: quota.count for name, quota in counts.items()} == {"a": 5, "b": 7, "c": 6}  # a and b tie


def test_layers_set_by_hand_come_first_and_the_others_share_the_rest() -> None:
    quotas = allocate(LAYERS, SparseSettings(density=0.25, allocation="uniform", layers=("*=0.1", "c=1")))
    assert {name: quota.count for name, quota in quotas.items()} == {"a": 11, "b": 29, "c": 40}  # nothing is left over
    quotas = allocate(LAYERS, SparseSettings(density=0.25, allocation="uniform", layers=("c=1",)))
    assert quotas["c"].dense
    assert sum(quota.count for quota in quotas.values()) == 109
    assert quotas["a"].density == quotas["b"].density == pytest.approx(69 / 396)
    first = allocate(LAYERS, SparseSettings(density=0.4, allocation="uniform", keep_first_dense=True))
    assert first["a"].dense
    assert sum(quota.count for quota in first.values()) == round(0.4 * 436)
    assert allocate(LAYERS, SparseSettings(density=0.4, keep_first_dense=True, layers=("a=0.5",)))["a"].count == 54


def test_the_last_entry_counts_also_of_a_pattern_that_is_repeated() -> None:
    quotas = allocate(LAYERS, SparseSettings(density=0.5, layers=("c=0.1", "*=0.5", "c=0.9")))
    assert {name: quota.count for name, quota in quotas.items()} == {"a": 54, "b": 144, "c": 36}


def test_everything_exists_at_density_one_whatever_else_is_said() -> None:
    quotas = allocate(LAYERS, SparseSettings(layers=("*=0.1", "nosuch=1")))
    assert all(quota.dense and quota.density == 1 for quota in quotas.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": ("classifier=1",)}, "'sparse.layers' has 'classifier', which no layer is called; layers: a, b, c"),
        ({"layers": ("b=1",)}, "layers set by hand have 244 synapses more than density 0.1 allows in all"),
        ({"density": 0.9, "layers": ("b=0.5",)}, "density 0.9 leaves 248 synapses to layers of 148 weights"),
    ],
)
def test_entries_that_cannot_be_met_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        allocate(LAYERS, SparseSettings(**{"density": 0.1, **changes}))


def test_a_starved_layer_is_fed_by_the_largest_or_refused() -> None:
    layers = {"small": (1, 3), "large": (20, 20), "other": (10, 20)}
    low = {"density": 0.02, "allocation": "uniform"}
    assert sum(quota.count for quota in allocate(layers, SparseSettings(**low)).values()) == 12
    fed = {name: (quota.count, quota.fed) for name, quota in allocate(layers, SparseSettings(**low)).items()}
    assert fed == {"small": (1, True), "large": (7, False), "other": (4, False)}
    with pytest.raises(SettingsError, match=r"density 0\.02 leaves layer 'small' without any synapse"):
        allocate(layers, SparseSettings(**low, starved="refuse"))
    by_hand = allocate(layers, SparseSettings(density=0.02, layers=("large=0.02", "small=0.01")))
    assert {name: quota.count for name, quota in by_hand.items()} == {"small": 1, "large": 8, "other": 3}
