"""Layers whose weights are generated from neuron encodings and one gene interaction matrix.

    W[o,i,u,v] = sum_{a,b} Xo[o,a] G[a,b] Xi[b,i,u,v]          (methods 3.3, equation 1)

Xi (g, C_i, k, k) gives every input channel and kernel tap a vector of g genes, Xo (C_o, g) every output
channel, and G (g, g) is one matrix for the whole network. `GenePool` owns G; layers refer to it without
registering it, so that it is stored, counted and optimised once.

In the shared variants (equation 3) the pool also owns one encoding E per layer of neurons, and a weight is
made from the encodings of the neurons it reads and the neurons it feeds:

    shared_tapG   W[o,i,u,v] = sum_{a,b} E_out[o,a] G[u,v,a,b] E_in[i,b]        E (C, g), G (k, k, g, g)
    shared_tapE   W[o,i,u,v] = sum_{a,b} read(E_out)[o,a] G[a,b] E_in[u,v,i,b]  E (k, k, C, g), G (g, g)

`read` is the mean over taps, or the centre tap. Where a kernel is smaller than the taps that are stored it
takes the central window; a 1x1 kernel or linear layer of shared_tapE takes `read`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evospike.core.errors import EncodingError
from evospike.core.text import shown
from evospike.genetic.contraction import ContractedWeight, Order
from evospike.genetic.settings import Kind, TapReading

Pair = tuple[int, int]
NO_ENCODINGS: Mapping[str, tuple[int, ...]] = MappingProxyType({})


class GenePool(nn.Module):
    """The genes that all layers of one network share.

    interaction: (g, g), or (k, k, g, g) for shared_tapG; the fixed identity for low_rank. Starts as the
        identity.
    encodings: of the shared variants, by neuron layer ('/' for '.' in its name): (C, g) or (k, k, C, g).
        Start as zeros.
    """

    interaction: Tensor

    def __init__(
        self,
        genes: int,
        kind: Kind = "edge",
        *,
        kernel: Pair = (1, 1),
        encodings: Mapping[str, tuple[int, ...]] = NO_ENCODINGS,
        tap_reading: TapReading = "mean",
        trainable: bool = True,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if genes < 1:
            raise EncodingError(f"{'zero' if genes == 0 else genes} genes cannot express a weight; expected at least 1")
        kinds = [known for known in get_args(Kind) if known != "dense"]
        for name, value, known in (("kind", kind, kinds), ("tap_reading", tap_reading, get_args(TapReading))):
            if value not in known:
                raise EncodingError(f"'{name}' of a gene pool cannot be {shown(value)}; known: {', '.join(known)}")
        self.genes, self.kind, self.tap_reading = genes, kind, tap_reading
        # Not torch.eye: on the meta device it imports the compiler.
        identity = torch.zeros(genes, genes, dtype=dtype, device=device).fill_diagonal_(1.0)
        if kind == "low_rank":
            self.register_buffer("interaction", identity, persistent=False)
        else:
            taps = (*kernel, 1, 1) if kind == "shared_tapG" else (1, 1)
            self.interaction = nn.Parameter(identity.repeat(taps), requires_grad=trainable)
        self.encodings = nn.ParameterDict(
            {
                key.replace(".", "/"): nn.Parameter(torch.zeros(shape, dtype=dtype, device=device))
                for key, shape in encodings.items()
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """Passes its input on, so that an `nn.Sequential` can own a pool without running differently."""
        return x

    def encoding(self, key: str) -> nn.Parameter:
        """The stored encoding of a layer of neurons, (C, g) or (k, k, C, g)."""
        stored: nn.Parameter = self.encodings[key.replace(".", "/")]
        return stored

    def per_neuron(self, key: str) -> Tensor:
        """One vector per neuron, (C, g)."""
        stored = self.encoding(key)
        if stored.dim() == 2:
            return stored
        if self.tap_reading == "mean":
            return stored.mean(dim=(0, 1))
        return stored[stored.shape[0] // 2, stored.shape[1] // 2]

    def per_tap(self, key: str, kernel: Pair) -> Tensor:
        """One vector per kernel tap and neuron, (*kernel, C, g)."""
        if kernel == (1, 1):
            return self.per_neuron(key)[None, None]
        return _central(self.encoding(key), kernel)

    def interaction_per_tap(self, kernel: Pair) -> Tensor:
        """The interaction of shared_tapG for a kernel, (*kernel, g, g)."""
        return _central(self.interaction, kernel)

    def extra_repr(self) -> str:
        return f"genes={self.genes}, kind={self.kind}"


def _central(stored: Tensor, kernel: Pair) -> Tensor:
    top, left = (stored.shape[0] - kernel[0]) // 2, (stored.shape[1] - kernel[1]) // 2
    return stored[top : top + kernel[0], left : left + kernel[1]]


class GeneticLayer(ContractedWeight):
    """What genetic convolutions and linear layers have in common.

    input_encoding: (g, C_i, *kernel), output_encoding: (C_o, g); both None in the shared variants, where
    `keys` names the (input, output) encodings in the pool. Encodings start as zeros: `genetic.wiring` draws
    the values.
    """

    input_encoding: nn.Parameter | None
    output_encoding: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(
        self,
        pool: GenePool,
        in_channels: int,
        out_channels: int,
        kernel: Pair,
        bias: bool,
        train_output_encoding: bool,
        keys: tuple[str, str] | None,
    ) -> None:
        super().__init__()
        # A tuple hides the pool from the module tree; deepcopy of the whole network still maps it to the copied pool.
        self._pool = (pool,)
        self.in_channels, self.out_channels, self.kernel, self.keys = in_channels, out_channels, kernel, keys
        zeros = pool.interaction.new_zeros
        shared = pool.kind.startswith("shared")
        if shared != (keys is not None):
            raise EncodingError(
                f"encoding keys {keys} do not fit a gene pool of kind '{pool.kind}'; only shared pools have them"
            )
        if shared:
            self.input_encoding = self.output_encoding = None
        else:
            self.input_encoding = nn.Parameter(zeros(pool.genes, in_channels, *self._input_taps()))
            self.output_encoding = nn.Parameter(zeros(out_channels, pool.genes), train_output_encoding)
        self.bias = nn.Parameter(zeros(out_channels)) if bias else None

    def _input_taps(self) -> tuple[int, ...]:
        return self.kernel

    @property
    def pool(self) -> GenePool:
        """The gene pool of the network this layer belongs to."""
        return self._pool[0]

    @property
    def factor_shape(self) -> tuple[int, int, int]:
        return self.out_channels, self.in_channels * self.kernel[0] * self.kernel[1], self.pool.genes

    def factors(self) -> tuple[Tensor, Tensor | None, Tensor]:
        """Xo (C_o, g), G (g, g) or None for the identity, Xi (g, C_i k^2); shared_tapG has G within Xi."""
        pool = self.pool
        if self.keys is None:
            assert self.output_encoding is not None
            assert self.input_encoding is not None
            genes = None if pool.kind == "low_rank" else _at_least_float32(pool.interaction)
            return (
                _at_least_float32(self.output_encoding),
                genes,
                _at_least_float32(self.input_encoding).flatten(1),
            )
        source, target = self.keys
        output = _at_least_float32(pool.per_neuron(target))
        if pool.kind == "shared_tapG":
            genes = _at_least_float32(pool.interaction_per_tap(self.kernel))
            mixed = torch.einsum("uvab,ib->aiuv", genes, _at_least_float32(pool.per_neuron(source)))
            return output, None, mixed.flatten(1)
        taps = _at_least_float32(pool.per_tap(source, self.kernel))
        return output, _at_least_float32(pool.interaction), taps.permute(3, 2, 0, 1).flatten(1)

    def encodings(self) -> Iterator[tuple[nn.Parameter, tuple[int, ...]]]:
        if self.keys is None:
            assert self.input_encoding is not None
            assert self.output_encoding is not None
            yield self.input_encoding, tuple(range(self.input_encoding.dim()))
            yield self.output_encoding, tuple(range(self.output_encoding.dim()))
            return
        for key in self.keys:
            stored = self.pool.encoding(key)
            yield stored, tuple(reversed(range(stored.dim())))  # (C, g) or (k, k, C, g): taps come first

    def form_weight(self) -> Tensor:
        # Half-precision products of three small factors underflow, so autocast is off (methods 3.14).
        with torch.autocast(device_type=self.pool.interaction.device.type, enabled=False):
            output, genes, taps = self.factors()
            if genes is None:
                weight = output @ taps
            elif output.shape[0] <= taps.shape[1]:
                weight = (output @ genes) @ taps
            else:
                weight = output @ (genes @ taps)
        return weight.view(self.weight_shape)

    def two_factors(self) -> tuple[Tensor, Tensor]:
        """Left (C_o, g) and right (g, C_i k^2) whose product is the weight matrix."""
        with torch.autocast(device_type=self.pool.interaction.device.type, enabled=False):
            output, genes, taps = self.factors()
            return output if genes is None else output @ genes, taps

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight, as the dense layer would store it."""
        return self.out_channels, self.in_channels, *self.kernel

    def _bias_like(self, x: Tensor) -> Tensor | None:
        return None if self.bias is None else self.bias.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.in_channels} -> {self.out_channels}, genes={self.pool.genes}, contraction={self.contraction}"


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


class GeneticConv2d(GeneticLayer):
    """A two-dimensional convolution with a generated weight, zero padded.

    Shapes: (B, C_i, H, W) to (B, C_o, H', W'), as `torch.nn.Conv2d`.
    Raises: EncodingError for groups other than 1: the encoding has no notion of groups.
    """

    def __init__(
        self,
        pool: GenePool,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        *,
        stride: int | Pair = 1,
        padding: int | Pair | str = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = False,
        train_output_encoding: bool = True,
        keys: tuple[str, str] | None = None,
    ) -> None:
        if groups != 1:
            raise EncodingError(f"a convolution with {groups} groups cannot be encoded; leave it dense or set groups=1")
        super().__init__(pool, in_channels, out_channels, _pair(kernel_size), bias, train_output_encoding, keys)
        self.stride, self.dilation = _pair(stride), _pair(dilation)
        self.padding = padding if isinstance(padding, str) else _pair(padding)

    def forward(self, x: Tensor) -> Tensor:
        if self._order(x) == "materialise":
            weight = self.current_weight().to(x.dtype)
            return self._convolve(x, weight, self._bias_like(x))
        left, right = self.two_factors()
        right = right.view(-1, self.in_channels, *self.kernel).to(x.dtype)
        y = self._convolve(x, right, None)
        return F.conv2d(y, left[:, :, None, None].to(y.dtype), self._bias_like(y))

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation)

    def _order(self, x: Tensor) -> Order:
        if self.settled is not None:
            return self.settled
        return self.settle(x.shape[0] * self._length(x.shape[2], 0) * self._length(x.shape[3], 1))

    def _length(self, size: int, axis: int) -> int:
        if self.padding == "same":
            return size
        padding = 0 if isinstance(self.padding, str) else self.padding[axis]
        return (size + 2 * padding - self.dilation[axis] * (self.kernel[axis] - 1) - 1) // self.stride[axis] + 1


class GeneticLinear(GeneticLayer):
    """A linear layer with a generated weight; (..., C_i) to (..., C_o)."""

    def __init__(
        self,
        pool: GenePool,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        train_output_encoding: bool = True,
        keys: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(pool, in_features, out_features, (1, 1), bias, train_output_encoding, keys)

    def _input_taps(self) -> tuple[int, ...]:
        return ()

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return self.out_channels, self.in_channels

    def forward(self, x: Tensor) -> Tensor:
        if self.settle(x.shape[:-1].numel()) == "materialise":
            return F.linear(x, self.current_weight().to(x.dtype), self._bias_like(x))
        left, right = self.two_factors()
        y = F.linear(x, right.to(x.dtype))
        return F.linear(y, left.to(y.dtype), self._bias_like(y))


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
