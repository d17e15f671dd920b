"""Optimisers with one group of parameters per role, and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from evospike.training.settings import TrainingSettings


def make_optimiser(net: nn.Module, roles: Mapping[str, str], training: TrainingSettings) -> Optimizer:
    """AdamW or SGD over the trainable parameters of a network.

    roles: what each parameter is for: `genes` take their own rate, `genes` and `encoding` their own decay, `weight` the
    weight decay, everything else (norm, bias, neuron) none.
    """
    decay = {"weight": training.weight_decay, "encoding": training.encoding_decay, "genes": training.encoding_decay}
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            role = roles[name]
            group = groups.setdefault(role, {"params": [], "role": role, "weight_decay": decay.get(role, 0.0)})
            group["params"].append(parameter)
            group["scale"] = training.gene_rate if role == "genes" else 1.0
    if training.optimiser == "sgd":
        momentum = training.momentum
        return torch.optim.SGD(groups.values(), lr=training.rate, momentum=momentum, nesterov=momentum > 0, fused=True)
    return torch.optim.AdamW(groups.values(), lr=training.rate, fused=True)


def rate_at(step: int, steps_per_epoch: int, training: TrainingSettings) -> float:
    """Learning rate of a step, counted from 0: a linear warm-up, then a cosine to `final_rate * rate`."""
    total = training.epochs * steps_per_epoch
    warmup = min(training.warmup_epochs * steps_per_epoch, total)
    if step < warmup:
        return training.rate * (step + 1) / (warmup + 1)
    phase = (step - warmup) / max(total - warmup, 1)
    lowest = training.final_rate
    return training.rate * (lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * phase)))


def set_rate(optimiser: Optimizer, rate: float) -> None:
    """Set the learning rate of every group, scaled by the group's own factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["scale"]


def optimiser_tensors(optimiser: Optimizer, net: nn.Module) -> dict[str, torch.Tensor]:
    """The optimiser's state as named tensors: `<parameter>/<quantity>`."""
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in net.named_parameters()}
    tensors = {}
    for parameter, state in optimiser.state.items():
        for quantity, value in state.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{names[parameter]}/{quantity}"] = value
    return tensors


def restore_optimiser(optimiser: Optimizer, net: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put back what `optimiser_tensors` gave."""
    parameters = dict(net.named_parameters())
    for key, value in tensors.items():
        name, _, quantity = key.rpartition("/")
        parameter = parameters[name]
        layout = torch.preserve_format if value.dim() != 4 else torch.contiguous_format
        held = value.to(parameter.device).clone(memory_format=layout)
        if value.shape == parameter.shape:
            held = torch.empty_like(parameter).copy_(held)
        optimiser.state[parameter][quantity] = held
