"""The dynamics over rows (T, N), operation by operation, writing in place: no compiler, few passes over memory."""

from __future__ import annotations

import torch
from torch import Tensor

from evospike.neurons.settings import NeuronSettings
from evospike.neurons.surrogate import slope


def charge_and_fire(
    current: Tensor, v: Tensor | None, decay: Tensor, neuron: NeuronSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Current (T, N) and state (N,), None for zero -> potentials before reset (T, N), spikes (T, N), last state."""
    charged = current.new_empty(current.shape)
    spikes = current.new_empty(current.shape)
    factor, last = decay.item(), torch.empty_like(charged[0])
    for row, u, s in zip(current, charged, spikes, strict=True):
        if v is None:
            u.copy_(row)
        else:
            torch.add(row, v, alpha=factor, out=u)
        torch.gt(u, neuron.threshold, out=s)
        v = _after_reset(u, s, neuron, last)
    return charged, spikes, last


def _after_reset(u: Tensor, s: Tensor, neuron: NeuronSettings, out: Tensor) -> Tensor:
    if neuron.reset == "hard":
        return torch.addcmul(u, u, s, value=-1, out=out)
    return torch.sub(u, s, alpha=neuron.threshold, out=out)


def back_through_time(
    charged: Tensor, decay: Tensor, grad_spikes: Tensor, grad_last: Tensor | None, neuron: NeuronSettings
) -> tuple[Tensor, Tensor]:
    """Gradients by current (T, N) and by the initial state (N,); `grad_last` None: the last state is not used."""
    slopes = slope(charged, neuron)
    keep = (charged <= neuron.threshold).to(charged.dtype) if neuron.reset == "hard" else torch.ones_like(charged)
    if not neuron.detach_reset:
        keep.addcmul_(slopes, charged, value=-1) if neuron.reset == "hard" else keep.sub_(
            slopes, alpha=neuron.threshold
        )
    grads = slopes.mul_(grad_spikes)
    factor = decay.item()
    grad_v = torch.zeros_like(grads[0]) if grad_last is None else grad_last.clone()
    for grad, k in zip(reversed(grads.unbind(0)), reversed(keep.unbind(0)), strict=True):
        grad.addcmul_(k, grad_v)
        torch.mul(grad, factor, out=grad_v)
    return grads, grad_v
