"""Changes that a network may meet after training: of its input, its weights and its thresholds.

Changes of the input take samples first: images (B, C, H, W) or event frames (B, T, 2, H, W), and give the same shape,
dtype and device. A random one takes one generator per sample (`sample_streams`), so that what happens to a sample does
not depend on the batch it is in; its draws do not depend on the strength either, but where events are dropped. At
strength 0 all of them give back what they got. `pixels` are values in 0..1, before normalisation.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from evospike.core.errors import SettingsError
from evospike.core.rng import torch_stream
from evospike.genetic.encode import materialise
from evospike.genetic.encoding import GenePool, GeneticLayer
from evospike.layers.spiking import SpikingNeuron
from evospike.layers.weights import weight_of, weighted_layers
from evospike.models.network import Network
from evospike.models.shapes import infer_shapes

Generators = Sequence[torch.Generator]
"""One per sample of a batch."""

DIRECTIONS = ((0, -1), (0, 1), (-1, 0), (1, 0))
"""Left, right, up and down, as steps (down, right)."""

FEWEST_BITS, MOST_BITS = 2, 16

LEAST_THRESHOLD = 0.1
"""What a jittered threshold keeps of its own at least."""


def sample_streams(seed: int, name: str, repeat: int, first: int, count: int) -> list[torch.Generator]:
    """The streams of the samples at positions first..first+count-1 of a set, for one change."""
    return [torch_stream(seed, "robustness", name, repeat, position) for position in range(first, first + count)]


def add_noise(x: Tensor, strength: float, generators: Generators) -> Tensor:
    """x + strength |x| / |n| n with n ~ N(0, I), per sample; |.| over everything a sample has.

    The sum is formed in float64 and rounded once, so |x' - x| / |x| misses the strength by at most 2^-24 (1 + strength)
    in float32: 2e-7 of 0.5. A sample of norm 0 stays as it is. Nothing is clipped. Source: methods 1.9.
    """
    n = _each(lambda g: torch.randn(x.shape[1:], generator=g, dtype=torch.float64), generators, x)
    exact = x.double()
    return (exact + strength * _norms(exact) / _norms(n) * n).to(x.dtype)


def brighten(pixels: Tensor, amount: float) -> Tensor:
    """Add `amount` to every value and clip to 0..1."""
    return (pixels + amount).clamp(0.0, 1.0)


def flatten_contrast(pixels: Tensor, share: float) -> Tensor:
    """Take a share of the contrast away: every value moves that part of the way to its channel's mean in its image."""
    mean = pixels.mean((-2, -1), keepdim=True)
    return pixels + share * (mean - pixels)


def blur(pixels: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of standard deviation `sigma` pixels, cut at 3 sigma; the edges go on outside."""
    if not sigma:
        return pixels
    reach = math.ceil(3 * sigma)
    taps = {by: math.exp(-0.5 * (by / sigma) ** 2) for by in range(-reach, reach + 1)}
    for dim in (-2, -1):
        blurred = torch.zeros_like(pixels)
        for by, tap in taps.items():
            blurred.add_(_moved(pixels, dim, by, edge=True), alpha=tap / sum(taps.values()))
        pixels = blurred
    return pixels


def shift(x: Tensor, down: int, right: int, *, edge: bool) -> Tensor:
    """Move by whole pixels, negative for up and left; what appears repeats the edge, or is 0."""
    return _moved(_moved(x, -2, down, edge), -1, right, edge)


def occlude(x: Tensor, share: float, generators: Generators) -> Tensor:
    """Set a rectangle to 0, whose sides are `share` of the image's, at a place that is uniform where it fits.

    On normalised images 0 is the mean of the data set, on event frames no event. All steps of a sample are alike.
    """
    height, width = x.shape[-2:]
    place = _each(lambda g: torch.rand(2, generator=g), generators, x)
    rows = _span(place[:, 0], round(share * height), height)
    columns = _span(place[:, 1], round(share * width), width)
    return x.masked_fill(_over(rows[:, :, None] & columns[:, None, :], x), 0.0)


def drop_events(frames: Tensor, share: float, generators: Generators) -> Tensor:
    """Lose every event with probability `share`, independently.

    Of a sample of whole counts each entry n keeps Binomial(n, 1 - share); of any other sample (frames that were scaled)
    each entry is kept or set to 0 as one.
    """
    samples = zip(frames.cpu(), generators, strict=True)
    return torch.stack([_thinned(sample, 1 - share, generator) for sample, generator in samples]).to(frames.device)


def add_hot_pixels(frames: Tensor, share: float, generators: Generators) -> Tensor:
    """Let a share of the pixels (at least one, unless it is 0) fire all the time.

    At every step and in both polarities a hot pixel gains as many events as the largest entry of its sample has. Which
    pixels are hot is drawn; those of a smaller share are among those of a larger.
    """
    height, width = frames.shape[-2:]
    count = max(1, round(share * height * width)) if share else 0
    order = _each(lambda g: torch.randperm(height * width, generator=g), generators, frames)
    hot = torch.zeros_like(order, dtype=torch.bool).scatter_(1, order[:, :count], True)
    busiest = frames.flatten(1).amax(1).view(-1, *[1] * (frames.dim() - 1))
    return frames + busiest * _over(hot.view(-1, height, width), frames)


def round_rows(weight: Tensor, bits: int) -> Tensor:
    """Symmetric uniform rounding with one scale for everything under an index of the first dimension.

    q = s round(w / s) with s = max |w| / (2^(bits-1) - 1), so a row has at most 2^bits - 1 different values, its zeros
    stay zero and its largest value stays. A half is rounded to the even side.
    Raises: SettingsError for fewer than 2 or more than 16 bits.
    """
    if not FEWEST_BITS <= bits <= MOST_BITS:
        raise SettingsError(f"weights are rounded to {FEWEST_BITS} to {MOST_BITS} bits, given {bits}")
    rows = weight.detach().double().flatten(1)
    scale = rows.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
    codes = (rows / torch.where(scale > 0, scale, 1.0)).round()
    rounded: Tensor = codes * scale
    return rounded.to(weight.dtype).view(weight.shape)


def with_rounded_weights(net: Network, bits: int) -> nn.Module:
    """A copy that computes with rounded weights, generated ones too; one scale per output channel (`round_rows`).

    Biases and norms stay.
    """
    plain = materialise(net)
    for _, layer in weighted_layers(plain):
        _round_in_place(weight_of(layer), bits)
    return plain


def with_rounded_encodings(net: Network, bits: int) -> nn.Module:
    """A copy with everything rounded that weights are stored as: encodings, gene interactions, and stored weights.

    One scale per output channel of a stored weight, per gene of an input encoding, and per vector over the last
    dimension of an output encoding, a shared encoding and the interaction. Biases and norms stay.
    """
    rounded = copy.deepcopy(net)
    for module in rounded.modules():
        if isinstance(module, GenePool):
            for parameter in module.parameters():
                _round_in_place(parameter.view(-1, parameter.shape[-1]), bits)
        elif isinstance(module, GeneticLayer):
            for encoding in (module.input_encoding, module.output_encoding):
                if encoding is not None:
                    _round_in_place(encoding, bits)
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            _round_in_place(module.weight, bits)
    return rounded


def threshold_factors(net: Network, spread: float, seed: int, repeat: int) -> dict[str, Tensor]:
    """For every unit of every neuron layer a factor max(1 + spread N(0, 1), 0.1) of its threshold, (*units).

    The draws depend on seed, repeat and the layer's name and shape, not on the spread.
    """
    shapes = infer_shapes(net.spec)
    factors = {}
    for name, module in net.named_modules():
        if isinstance(module, SpikingNeuron):
            generator = torch_stream(seed, "robustness", "threshold jitter", repeat, name)
            factors[name] = (1 + spread * torch.randn(shapes[name], generator=generator)).clamp_min(LEAST_THRESHOLD)
    return factors


@contextmanager
def scaled_thresholds(net: nn.Module, factors: Mapping[str, Tensor]) -> Iterator[None]:
    """Multiply the thresholds of neuron layers by factors per unit, (*units), while inside.

    Between spikes the potential is linear in the current, and both resets scale with it: the hard one sets 0, the soft
    one takes the threshold away. So a unit of threshold c theta fires as one of threshold theta does for a current
    divided by c, which is what runs; potentials read c times too small meanwhile.
    """
    with ExitStack() as hooks:
        for name, factor in factors.items():
            hooks.callback(net.get_submodule(name).register_forward_pre_hook(_divides_current_by(factor)).remove)
        yield


def _divides_current_by(factor: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    def divide(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        current, *others = args
        return (current / factor.to(current), *others)

    return divide


@torch.no_grad()
def _round_in_place(weight: Tensor, bits: int) -> None:
    weight.copy_(round_rows(weight, bits))


def _each(draw: Callable[[torch.Generator], Tensor], generators: Generators, like: Tensor) -> Tensor:
    """One draw per sample, stacked, on the device of `like`."""
    return torch.stack([draw(generator) for generator in generators]).to(like.device)


def _norms(x: Tensor) -> Tensor:
    """L2 norm of every sample, (B, 1, ...), ready to meet x."""
    # One by one: a sum over a batch may round differently from one batch size to the next.
    return torch.stack([sample.norm() for sample in x]).view(-1, *[1] * (x.dim() - 1))


def _moved(x: Tensor, dim: int, by: int, edge: bool) -> Tensor:
    size = x.shape[dim]
    source = torch.arange(size, device=x.device) - by
    moved = x.index_select(dim, source.clamp(0, size - 1))
    if edge:
        return moved
    return moved.index_fill(dim, ((source < 0) | (source >= size)).nonzero()[:, 0], 0.0)


def _span(place: Tensor, length: int, size: int) -> Tensor:
    """bool (B, size): `length` neighbours, the first of them at a share `place` (B,) of where it may be."""
    start = (place * (size - length + 1)).floor()[:, None]
    pixels = torch.arange(size, device=place.device)
    return (pixels >= start) & (pixels < start + length)


def _over(mask: Tensor, x: Tensor) -> Tensor:
    """(B, H, W) -> (B, 1, ..., H, W), ready to meet x."""
    return mask.view(len(mask), *[1] * (x.dim() - 3), *mask.shape[1:])


def _thinned(sample: Tensor, kept: float, generator: torch.Generator) -> Tensor:
    if bool((sample == sample.round()).all() and (sample >= 0).all()):
        return torch.binomial(sample, torch.full_like(sample, kept), generator=generator)
    chance = torch.rand(sample.shape, generator=generator)
    return torch.where(chance < kept, sample, 0.0)
