"""How well a network tells classes apart, and how much it fires meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evospike.measure.spikes import SpikeCount, counting


@dataclass(frozen=True)
class Evaluation:
    """accuracy in 0..1, mean cross-entropy of the output averaged over time, and what the neurons did."""

    accuracy: float
    loss: float
    samples: int
    spikes: SpikeCount

    @property
    def firing_rate(self) -> float:
        return self.spikes.firing_rate()


@torch.no_grad()
def evaluate(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], *, count_spikes: bool = True) -> Evaluation:
    """Run a network in eval mode over batches of (images, classes); its training mode is restored afterwards."""
    was_training = net.training
    net.eval()
    correct, loss, samples = 0, 0.0, 0
    try:
        with counting(net) if count_spikes else nullcontext(SpikeCount()) as spikes:
            for x, labels in batches:
                scores = net(x).mean(0).float()
                correct += int((scores.argmax(-1) == labels).sum())
                loss += float(F.cross_entropy(scores, labels, reduction="sum"))
                samples += len(labels)
    finally:
        net.train(was_training)
    return Evaluation(correct / max(samples, 1), loss / max(samples, 1), samples, spikes)
