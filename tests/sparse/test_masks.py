"""Masks on a network: drawn exactly, held by the network, counted by what it computes with and by what it stores."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from evospike.core.errors import RunError, SettingsError
from evospike.core.files import digest_tensors
from evospike.core.rng import torch_stream
from evospike.genetic.encode import encode, materialise
from evospike.layers.weights import weight_of
from evospike.models.build import build
from evospike.models.counts import count_layers
from evospike.models.init import draw_stored
from evospike.models.network import Network
from evospike.models.presets import small8
from evospike.sparse.allocation import allocate
from evospike.sparse.masks import attach, mask_name, masked_name, prunable_tensors, summarise
from evospike.sparse.picture import connectivity
from evospike.sparse.settings import SparseSettings

TENTH = SparseSettings(density=0.1)
QUARTER = SparseSettings(density=0.25, allocation="uniform")
ON_ENCODINGS = SparseSettings(density=0.4, allocation="uniform", on="encodings")


def spiking(kind: str = "dense") -> Network:
    net = build(small8((1, 8, 8), 3, channels=(4, 6, 6, 8)), steps=2)
    draw_stored(net, 0)
    if kind != "dense":
        encode(net, genes=3, kind=kind, skip_growing=False, contraction="materialise")
    return net


def masks_of(net: nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: tensor for name, tensor in net.state_dict().items() if masked_name(name) and tensor.dtype == torch.bool
    }


@pytest.mark.parametrize("kind", ["stored", "genetic"])
def test_every_layer_has_exactly_its_quota_and_nothing_outside_it(tiny, kind: str) -> None:
    net = tiny(kind)
    before = {name: weight_of(net.get_submodule(name)).detach().clone() for name in ("first", "second", "third")}
    masks = attach(net, QUARTER, 0)
    assert sum(quota.count for quota in masks.quotas.values()) == round(0.25 * (108 + 432 + 288))
    assert [tensor.name for tensor in masks.tensors] == ["first", "second", "third"]
    for tensor in masks.tensors:
        assert tensor.mask.shape == tensor.shape
        assert int(tensor.mask.sum()) == masks.quotas[tensor.name].count
        weight = weight_of(net.get_submodule(tensor.name))
        assert torch.equal(weight, torch.where(tensor.mask, before[tensor.name], 0.0))
        assert (tensor.generated is None) == (kind == "stored" or tensor.name == "first")


def test_dense_layers_have_no_mask_and_density_one_attaches_nothing(tiny) -> None:
    net = tiny()
    masks = attach(net, SparseSettings(density=0.5, layers=("third=1",)), 0)
    assert set(masks_of(net)) == {"first.mask", "second.mask"}
    assert masks.quotas["third"].dense
    whole = tiny()
    state = digest_tensors(whole.state_dict())
    assert attach(whole, SparseSettings(), 0).tensors == ()
    assert digest_tensors(whole.state_dict()) == state


def test_the_graph_is_named_by_seed_key_and_layer(tiny) -> None:
    def graph(seed: int, *key: str | int) -> dict[str, bytes]:
        net = tiny()
        attach(net, TENTH, seed, key)
        return {name: mask.numpy().tobytes() for name, mask in masks_of(net).items()}

    assert graph(0, "final", 1) == graph(0, "final", 1)
    for other in (graph(1, "final", 1), graph(0, "final", 2), graph(0)):
        assert all(other[name] != mask for name, mask in graph(0, "final", 1).items())


def test_the_graph_is_the_same_in_another_process() -> None:
    program = """
import torch
from torch import nn
from evospike.core.files import digest_tensors
from evospike.sparse.masks import attach
from evospike.sparse.settings import SparseSettings
net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(20, 30))
attach(net, SparseSettings(density=0.3), 5, ("final", 0))
print(digest_tensors({name: t for name, t in net.state_dict().items() if name.endswith("mask")}))
"""
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(20, 30))
    attach(net, SparseSettings(density=0.3), 5, ("final", 0))
    assert other == digest_tensors(masks_of(net))


@pytest.mark.parametrize("settings", [QUARTER, ON_ENCODINGS], ids=["weights", "encodings"])
@pytest.mark.parametrize("kind", ["dense", "edge", "low_rank", "shared_tapG", "shared_tapE"])
def test_a_runs_masks_come_back_with_its_state(kind: str, settings: SparseSettings) -> None:
    net, fresh = spiking(kind), spiking(kind)
    attach(net, settings, 0)
    attach(fresh, settings, 1)
    x = 2 * torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(net(x), fresh(x))  # with the batch's statistics: untrained running ones leave it silent
    fresh.load_state_dict(net.state_dict())
    assert torch.equal(net(x), fresh(x))
    twin = copy.deepcopy(net)
    assert torch.equal(net(x), twin(x))
    assert digest_tensors(twin.state_dict()) == digest_tensors(net.state_dict())
    plain = materialise(net)
    torch.testing.assert_close(plain(x), net(x))
    for name, mask in masks_of(net).items():
        if name.endswith(".mask"):  # of a weight: kept, and the weight stored under it
            assert torch.equal(plain.state_dict()[name], mask)
            assert not plain.state_dict()[masked_name(name)][~mask].any()


def test_masks_on_encodings_leave_genes_and_frozen_encodings_alone(tiny) -> None:
    net = tiny("genetic")
    masks = attach(net, ON_ENCODINGS, 0)
    names = ["second.input_encoding", "second.output_encoding", "third.input_encoding", "third.output_encoding"]
    assert [tensor.name for tensor in masks.tensors] == ["first", *names]
    for tensor in masks.tensors:
        assert not tensor.parameter[~tensor.mask].any()
        assert tensor.parameter[tensor.mask].all()
    frozen = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    encode(frozen, genes=3, layers=lambda *_: True, skip_growing=False, train_output_encoding=False)
    assert [t.name for t in attach(frozen, ON_ENCODINGS, 0).tensors] == ["0.input_encoding", "1.input_encoding"]


@pytest.mark.parametrize(("kind", "shape"), [("shared_tapG", (3, 6)), ("shared_tapE", (3, 6, 3, 3))])
def test_encodings_that_layers_share_are_masked_once(kind: str, shape: tuple[int, ...]) -> None:
    net = spiking(kind)
    masks = attach(net, ON_ENCODINGS, 0)
    shared = {t.name: t for t in masks.tensors if t.name.startswith("gene_pool.")}
    assert {f"gene_pool.encodings.{key}" for key in net.gene_pool.encodings} == set(shared)
    assert shape in {tensor.shape for tensor in shared.values()}  # genes, neurons, taps
    for name, tensor in shared.items():
        stored = net.get_parameter(name)
        assert tensor.mask.shape == stored.shape
        assert not stored[~tensor.mask].any()
        assert int(tensor.mask.sum()) == masks.quotas[name].count
        assert tensor.mask_as_weight.shape == tensor.shape
    pictures = {layer["name"]: layer for layer in connectivity(net, ON_ENCODINGS)}
    for name, tensor in shared.items():
        genes, neurons = tensor.shape[:2]
        expected = np.moveaxis(tensor.mask.numpy(), (-1, -2), (0, 1)).reshape(genes, neurons, -1).mean(-1)
        assert (pictures[name]["outputs"], pictures[name]["inputs"]) == (genes, neurons)
        np.testing.assert_allclose(pictures[name]["share"], expected, atol=1e-3)


def test_chance_graphs_have_the_density_in_the_mean() -> None:
    net = nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 300))
    masks = attach(net, SparseSettings(density=0.2, exact_count=False), 0)
    counts = [int(tensor.mask.sum()) for tensor in masks.tensors]
    deviation = (90_000 * 0.2 * 0.8) ** 0.5
    assert all(0 < abs(count - 18_000) < 5 * deviation for count in counts)
    assert counts[0] != counts[1]


def test_a_layer_that_chance_starves_is_fed_or_refused() -> None:
    thin = SparseSettings(density=0.25, exact_count=False)
    seed = next(s for s in range(100) if not (torch.rand(4, generator=_stream(s), dtype=torch.float64) < 0.25).any())
    net = nn.Sequential(nn.Linear(2, 2))
    assert int(attach(net, thin, seed).tensors[0].mask.sum()) == 1
    with pytest.raises(SettingsError, match="chance left layer '0' without any synapse"):
        attach(nn.Sequential(nn.Linear(2, 2)), SparseSettings(density=0.25, exact_count=False, starved="refuse"), seed)


def _stream(seed: int) -> torch.Generator:
    return torch_stream(seed, "mask", "0")


def test_masks_follow_the_memory_layout_of_their_weights(tiny) -> None:
    net, twin = tiny().to(memory_format=torch.channels_last), tiny()
    for module in (net, twin):
        attach(module, QUARTER, 0)
    assert net.second.mask.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(net.second.mask, twin.second.mask)  # the graph does not depend on it


def test_errors_say_what_to_do(tiny) -> None:
    net = tiny()
    attach(net, TENTH, 0)
    with pytest.raises(RunError, match="layer 'first' has a mask already; attach masks to a network once"):
        attach(net, TENTH, 0)
    with pytest.raises(SettingsError, match=r"ReLU has no convolution or linear weight to prune"):
        attach(nn.ReLU(), TENTH, 0)
    computed = nn.Sequential(nn.Linear(4, 4), nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))
    with pytest.raises(SettingsError, match=r"^the weight of layer '1' is computed from other .*; remove the param"):
        attach(computed, TENTH, 0)
    assert not hasattr(computed[0], "mask")


def test_names_of_masks() -> None:
    for name, mask in {"a.weight": "a.mask", "weight": "mask", "a.b.input_encoding": "a.b.input_encoding_mask"}.items():
        owner, dot, attribute = name.rpartition(".")
        assert f"{owner}{dot}{mask_name(attribute)}" == mask
        assert masked_name(mask) == name
    assert masked_name("a.weight") is masked_name("_mask") is None


class TestSummary:
    def test_of_stored_weights(self) -> None:
        net = spiking()
        masks = attach(net, TENTH, 0)
        found, counts = summarise(net, TENTH), {c.name: c for c in count_layers(net.spec)}
        quotas = allocate({t.name: t.shape for t in prunable_tensors(net, TENTH)}, TENTH)
        assert [(x.name, x.weights, x.active) for x in found.layers] == [
            (n, q.weights, q.count) for n, q in quotas.items()
        ]
        weights, synapses = sum(q.weights for q in quotas.values()), sum(q.count for q in quotas.values())
        assert (found.weights, found.synapses) == (weights, synapses)
        assert found.density == found.synapse_density == synapses / weights
        assert [x.macs for x in found.layers] == [counts[x.name].macs for x in found.layers]
        macs = sum(x.macs for x in found.layers)
        assert found.connection_density == pytest.approx(sum(x.density * x.macs for x in found.layers) / macs)
        assert found.parameters - found.active_parameters == weights - synapses
        for tensor in masks.tensors:
            layer = next(x for x in found.layers if x.name == tensor.name)
            assert layer.unfed == sum(not bool(row.any()) for row in tensor.mask)

    def test_of_generated_weights_under_masks(self) -> None:
        net = spiking("edge")
        attach(net, TENTH, 0)
        found, dense = summarise(net, TENTH), summarise(spiking("edge"), TENTH)
        assert found.density == found.synapse_density == round(0.1 * found.weights) / found.weights
        assert dense.density == dense.synapse_density == dense.connection_density == 1
        stored = sum(x.weights - x.active for x in found.layers if hasattr(net.get_submodule(x.name), "weight"))
        assert 0 < found.parameters - found.active_parameters == stored  # all encodings are still there

    def test_of_masked_encodings(self) -> None:
        net = spiking("edge")
        attach(net, ON_ENCODINGS, 0)
        found = summarise(net, ON_ENCODINGS)
        masked = sum(int((~mask).sum()) for mask in masks_of(net).values())
        assert found.parameters - found.active_parameters == masked
        assert found.density == pytest.approx(0.4, abs=1e-2)
        nonzero = sum(int(weight_of(net.get_submodule(n.name)).count_nonzero()) for n in net.spec.weighted())
        assert found.synapses == nonzero
        assert found.synapse_density > found.density  # an entry is a sum over pairs of genes, few have none left
        assert {x.macs for x in found.layers if x.name.endswith("encoding")} == {0}

    def test_without_a_specification_macs_are_unknown(self, tiny) -> None:
        net = tiny()
        attach(net, QUARTER, 0)
        found = summarise(net, QUARTER)
        assert found.connection_density is None
        assert found.density == 207 / 828


def test_shared_weights_have_one_mask_and_frozen_ones_none() -> None:
    first, second, frozen = nn.Linear(20, 20, bias=False), nn.Linear(20, 20, bias=False), nn.Linear(20, 20, bias=False)
    second.weight = first.weight
    frozen.weight.requires_grad_(False)
    before = frozen.weight.clone()
    masks = attach(nn.Sequential(first, second, frozen), SparseSettings(density=0.2), 0)
    assert [tensor.name for tensor in masks.tensors] == ["0"]
    assert int(first.weight.count_nonzero()) == int(first.mask.sum()) == 80
    assert torch.equal(frozen.weight, before)
