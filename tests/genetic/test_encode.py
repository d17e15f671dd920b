"""Any torch module can be encoded and made dense again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from evospike.core.errors import EncodingError, SettingsError
from evospike.core.settings import read_settings
from evospike.genetic.encode import encode as encode_where_smaller
from evospike.genetic.encode import encode_with, encoded_parameters, materialise
from evospike.genetic.encoding import GenePool, GeneticConv2d, GeneticLayer, GeneticLinear
from evospike.genetic.groups import parameter_roles
from evospike.genetic.settings import EncodingSettings, WiringSettings
from evospike.genetic.shared import LayerShape, plan_shared
from evospike.models.build import build
from evospike.models.presets import resnet19w, small8, vgg16
from evospike.models.spec import INPUT, SpecBuilder
from evospike.sparse.masks import attach
from evospike.sparse.settings import SparseSettings

encode = partial(encode_where_smaller, skip_growing=False)
"""These layers are so small that most would grow; `test_skip_growing_...` asks for the default."""


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2, padding=1),
        nn.Conv2d(12, 12, 1),
        nn.Conv2d(12, 12, 3, groups=2, padding=1),
        nn.Flatten(),
        nn.Linear(12 * 16, 10),
        nn.Linear(10, 4),
    )


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 3))


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def genetic(net: nn.Module) -> list[str]:
    return [name for name, layer in net.named_modules() if isinstance(layer, GeneticLayer)]


@pytest.mark.parametrize(("make", "shape", "names"), [(cnn, (2, 3, 8, 8), ["3", "7"]), (mlp, (2, 6), ["2"])])
@pytest.mark.parametrize("kind", ["edge", "low_rank"])
@pytest.mark.parametrize("contraction", ["materialise", "two_stage", "auto"])
def test_plain_module_there_and_back(
    make: Callable[[], nn.Module], shape: tuple[int, ...], names: list[str], kind: str, contraction: str
) -> None:
    net = make().double().eval()
    same = encode(net, genes=5, kind=kind, contraction=contraction)  # type: ignore[arg-type]
    assert same is net
    assert genetic(net) == names
    plain = materialise(net)
    assert [type(part) for part in plain.modules()] == [type(part) for part in make().modules()]
    assert list(plain.state_dict()) == list(make().state_dict())
    x = noise(*shape)
    torch.testing.assert_close(plain(x), net(x), rtol=1e-12, atol=1e-12)
    assert genetic(net) == names  # untouched by materialise


def test_bias_dtype_and_mode_carry_over() -> None:
    net = cnn().double().eval()
    bias = net[3].bias
    encode(net, genes=2)
    layer = net[3]
    assert isinstance(layer, GeneticConv2d)
    assert layer.bias is bias
    assert layer.input_encoding.dtype == torch.float64
    assert not layer.training


def test_predicate_chooses_and_repeated_layers_stay_shared() -> None:
    shared = nn.Linear(6, 6)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    encode(net, genes=2, layers=lambda name, layer: True)
    assert isinstance(net[0], GeneticLinear)
    assert net[0] is net[2]


def test_skip_growing_leaves_layers_that_would_grow() -> None:
    net = encode(mlp(), genes=4, layers=lambda name, _: True, skip_growing=True)
    assert genetic(net) == ["2"]  # 9x9 = 81 > 4 * 18 = 72; 6x9 = 54 < 60; 9x3 = 27 < 48


def test_equal_seeds_give_equal_networks() -> None:
    torch.manual_seed(0)
    one = encode(mlp(), genes=3, seed=7).state_dict()
    two = encode(mlp(), genes=3, seed=7).state_dict()
    other = encode(mlp(), genes=3, seed=8).state_dict()
    assert torch.equal(one["2.input_encoding"], two["2.input_encoding"])
    assert not torch.equal(one["2.input_encoding"], other["2.input_encoding"])


@pytest.mark.parametrize("kind", ["edge", "low_rank", "shared_tapG", "shared_tapE"])
def test_network_of_a_specification(kind: str) -> None:
    net = build(small8((1, 8, 8), 4), steps=2).double()
    encode_with(net, EncodingSettings(kind=kind, genes=4, skip_growing=False))  # type: ignore[arg-type]
    assert genetic(net) == ["conv2.conv", "conv3.conv", "conv4.conv"]
    scores = net(noise(2, 1, 8, 8))
    scores.sum().backward()
    assert all(parameter.grad is not None for parameter in net.gene_pool.parameters())
    plain = materialise(net)
    torch.testing.assert_close(plain.eval()(noise(2, 1, 8, 8)), net.eval()(noise(2, 1, 8, 8)), rtol=0, atol=1e-9)
    assert not hasattr(plain, "gene_pool")


def test_dense_settings_leave_the_network_alone() -> None:
    net = mlp()
    assert encode_with(net, EncodingSettings(kind="dense")) is net
    assert genetic(net) == []


def test_roles_of_parameters() -> None:
    net = encode(build(vgg16((3, 32, 32), 4, hidden=16), steps=1), genes=2)
    roles = parameter_roles(net)
    assert set(roles) == {name for name, _ in net.named_parameters()}
    assert roles["gene_pool.interaction"] == "genes"
    assert roles["conv2.conv.input_encoding"] == "encoding"
    assert roles["conv1.conv.weight"] == "weight"
    assert roles["conv1.norm.weight"] == roles["conv1.norm.bias"] == "norm"
    assert roles["hidden.0.linear.bias"] == roles["classifier.bias"] == "bias"
    shared = parameter_roles(encode(build(small8((1, 8, 8), 4)), genes=2, kind="shared_tapG"))
    assert shared["gene_pool.encodings.conv2/neuron"] == "encoding"
    assert shared["gene_pool.interaction"] == "genes"


def masked() -> nn.Module:
    net = mlp()
    attach(net, SparseSettings(density=0.5), 0)
    return net


def test_genes_go_wherever_they_belong() -> None:
    inner = encode(mlp(), genes=2)
    whole = nn.Sequential(inner, nn.Softmax(1))
    plain = materialise(whole)
    assert not any(isinstance(part, (GenePool, GeneticLayer)) for part in plain.modules())
    x = noise(3, 6).float()
    torch.testing.assert_close(plain(x), whole(x))
    encode(plain, genes=2)


def test_grouped_layers_that_stay_dense_are_no_obstacle_to_counting() -> None:
    b = SpecBuilder("grouped", (8, 6, 6), 3)
    grouped = b.node("grouped", "conv", INPUT, channels=8, kernel=3, groups=4)
    body = b.node("body", "conv", grouped, channels=32, kernel=3)
    b.node("classifier", "linear", b.node("pool", "global_pool", body), features=3, role="classifier")
    spec, settings = b.finish(), EncodingSettings(genes=8)
    net = encode_with(build(spec), settings)
    assert encoded_parameters(spec, settings).total == sum(p.numel() for p in net.parameters() if p.requires_grad)
    with pytest.raises(EncodingError, match="layer 'grouped' has 4 groups and cannot be encoded"):
        encoded_parameters(spec, EncodingSettings(genes=8, skip_growing=False))


class TestErrors:
    def test_messages(self) -> None:
        encoded = encode(mlp(), genes=2)
        owner = mlp()
        owner.gene_pool = nn.Identity()
        cases: list[tuple[nn.Module, dict[str, object], str]] = [
            (mlp(), {"genes": 0}, "zero genes cannot express a weight"),
            (mlp(), {"genes": 2.5}, r"'genes' wants a whole number, given 2\.5"),
            (mlp(), {"genes": 2, "kind": "egde"}, "'kind' cannot be 'egde'; did you mean 'edge'"),
            (mlp(), {"genes": 2, "contraction": "materialize"}, "did you mean 'materialise'"),
            (mlp(), {"genes": 2, "tap_reading": "center"}, "did you mean 'centre'"),
            (
                masked(),
                {"genes": 2, "layers": lambda *_: True},
                "layer '0' has a mask, .*; encode first, then sparsify",
            ),
            (mlp(), {"layers": lambda *_: False}, r"is to be encoded \(layers= chooses none\)"),
            (nn.Sequential(nn.ReLU()), {}, r"is to be encoded \(it has no nn.Conv2d and no nn.Linear\)"),
            (
                nn.Sequential(nn.Linear(64, 256), nn.Linear(256, 10)),
                {},
                "the first one, 1x1 and .* the last linear layer",
            ),
            (
                mlp(),
                {"genes": 1000, "skip_growing": True},
                r"skip_growing leaves out \S+, whose encodings would be larger",
            ),
            (build(small8((1, 8, 8), 10)), {"roles": ("shortcut",)}, "none has one of the given roles"),
            (cnn(), {"layers": lambda name, _: name == "5"}, "layer '5' has 2 groups and cannot be encoded"),
            (encoded, {}, "encoded already"),
            (owner, {}, "'gene_pool' of its own"),
            ("net", {}, "encode takes a torch module, given str"),  # type: ignore[list-item]
            (nn.Linear(2, 2), {}, "a bare Linear cannot be replaced in place"),
            (mlp(), {"kind": "shared_tapE"}, "follows a network's spec, which Sequential does not have"),
            (mlp(), {"kind": "dense"}, "kind 'dense' encodes nothing"),
            (
                nn.Sequential(nn.Conv2d(1, 1, 3, padding_mode="circular", padding=1)),
                {"layers": lambda *_: True},
                "only zero padding",
            ),
        ]
        for net, options, text in cases:
            with pytest.raises(EncodingError, match=text):
                encode(net, **options)  # type: ignore[arg-type]

    def test_settings(self) -> None:
        with pytest.raises(SettingsError, match="zero genes cannot"):
            EncodingSettings(genes=0)
        with pytest.raises(SettingsError, match="expected at least 1"):
            EncodingSettings(genes=-1)
        with pytest.raises(SettingsError, match="cannot be used with 'shared_tapG'"):
            EncodingSettings(kind="shared_tapG", train_output_encoding=False)
        with pytest.raises(SettingsError, match="gene_spread is 0"):
            WiringSettings(gene_spread=0.0)
        with pytest.raises(SettingsError, match=r"stage_spreads\[1\] is -1"):
            WiringSettings(stage_spreads=(0.1, -1.0))
        with pytest.raises(SettingsError, match="'kind' cannot be 'edges'"):
            read_settings(EncodingSettings, {"kind": "edges"})


@pytest.mark.parametrize(
    ("in_channels", "out_channels", "break_even"),
    [(64, 64, 57.6), (64, 128, 104.7), (256, 512, 418.9)],
)
def test_break_even_genes_of_methods_3_4(in_channels: int, out_channels: int, break_even: float) -> None:
    shape = LayerShape(out_channels, in_channels, (3, 3))
    assert shape.encodings(int(break_even)) < shape.weights < shape.encodings(int(break_even) + 1)


def test_resnet_blocks_find_their_neurons() -> None:
    for block, reads, feeds in [
        ("post", "stage1.0.2.neuron", "stage1.1.2.neuron"),
        ("sew", "stage1.0.2.neuron", "stage1.1.2.neuron"),
        ("ms", "stage1.1.1.neuron", "stage1.2.1.neuron"),
    ]:
        spec = resnet19w((3, 32, 32), 10, block=block)
        names = [node.name for node in spec.weighted() if node.args["role"] == "body"]
        widths = {"stage1": 128, "stage2": 256, "stage3": 512}
        shapes = {}
        for name in names:
            width = widths[name.split(".")[0]]
            before = width // 2 if name.endswith("0.1.conv") and width > 128 else width
            shapes[name] = LayerShape(width, before, (3, 3))
        plan = plan_shared(spec, shapes, 10, "shared_tapG")
        assert plan.layers["stage1.1.1.conv"] == (reads, "stage1.1.1.neuron" if block != "ms" else "stage1.1.2.neuron")
        assert plan.layers["stage1.1.2.conv"][1] == feeds
        assert len(plan.encodings) == 17
        assert not any(":" in key for key in plan.encodings)


def test_materialised_masked_layers_store_masked_weights_and_keep_their_masks() -> None:
    net = encode(cnn().double(), genes=4)
    layers = {name: layer for name, layer in net.named_modules() if isinstance(layer, GeneticLayer)}
    for layer in layers.values():
        layer.mask = torch.rand(layer.weight_shape, generator=torch.Generator().manual_seed(0)) < 0.3
    plain = materialise(net)
    for name, layer in layers.items():
        stored = plain.get_submodule(name)
        assert torch.equal(stored.mask, layer.mask)
        assert torch.equal(stored.weight, layer.form_weight().masked_fill(~layer.mask, 0))
        assert not torch.signbit(stored.weight[~layer.mask]).any()
    x = noise(2, 3, 8, 8)
    torch.testing.assert_close(plain(x), net(x))


def test_encodings_are_named_with_the_order_of_their_axes_as_weights() -> None:
    conv = next(layer for layer in encode(cnn(), genes=4).modules() if isinstance(layer, GeneticConv2d))
    (inputs, of_inputs), (outputs, of_outputs) = conv.encodings()
    assert inputs is conv.input_encoding
    assert outputs is conv.output_encoding
    assert (inputs.permute(of_inputs).shape, outputs.permute(of_outputs).shape) == ((4, 8, 3, 3), (12, 4))
    net = encode(build(small8((1, 8, 8), 3)), genes=4, kind="shared_tapE")
    layer = next(layer for layer in net.modules() if isinstance(layer, GeneticConv2d))
    for (parameter, axes), key in zip(layer.encodings(), layer.keys, strict=True):
        assert parameter is net.gene_pool.encoding(key)
        assert axes == (3, 2, 1, 0)
        assert parameter.permute(axes).shape[0] == 4
