"""How well class scores over time tell classes apart."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from evospike.core.errors import ShapeError

_TOP = 5


class Predictions:
    """Scores of many batches judged against their classes; nothing but counts is kept.

    A prediction is the class of the largest mean score, the first of several equal ones. All shares lie in 0..1.
    Raises: ShapeError by every property but `samples` while nothing was added.
    """

    def __init__(self) -> None:
        self.samples = 0
        self._loss = 0.0
        self._in_top = 0
        self._correct_by_step: list[int] = []
        self._confusion = torch.zeros(0, 0, dtype=torch.int64)

    @torch.no_grad()
    def add(self, scores: Tensor, labels: Tensor) -> None:
        """Judge one batch: scores (T, B, classes) and classes (B,).

        Raises: ShapeError when they do not fit together or to the batches before.
        """
        self._check(scores, labels)
        steps, _, classes = scores.shape
        means = [scores[: t + 1].mean(0).float() for t in range(steps)]
        if not self.samples:
            self._correct_by_step = steps * [0]
            self._confusion = torch.zeros(classes, classes, dtype=torch.int64)
        for t, mean in enumerate(means):
            self._correct_by_step[t] += int((mean.argmax(-1) == labels).sum())
        last = means[-1]
        self._loss += float(F.cross_entropy(last, labels, reduction="sum"))
        ranked = last.argsort(dim=-1, descending=True, stable=True)
        self._in_top += int((ranked[:, :_TOP] == labels[:, None]).sum())
        cells = (classes * labels + last.argmax(-1)).cpu()
        self._confusion += cells.bincount(minlength=classes**2).view(classes, classes)
        self.samples += len(labels)

    @property
    def accuracy(self) -> float:
        """Of the mean over all steps."""
        return self.accuracy_by_step[-1]

    @property
    def accuracy_by_step(self) -> tuple[float, ...]:
        """Of the mean over the first t steps, t = 1..T."""
        samples = self._seen()
        return tuple(correct / samples for correct in self._correct_by_step)

    @property
    def loss(self) -> float:
        """Mean cross-entropy of the mean over all steps, in nats."""
        return self._loss / self._seen()

    @property
    def top5(self) -> float | None:
        """Share of samples whose class is among the five largest means; None with five classes or fewer."""
        samples = self._seen()
        return self._in_top / samples if len(self._confusion) > _TOP else None

    @property
    def confusion(self) -> list[list[int]]:
        """Samples by true class (rows) and predicted class (columns)."""
        self._seen()
        found: list[list[int]] = self._confusion.tolist()
        return found

    def _seen(self) -> int:
        if not self.samples:
            raise ShapeError("no scores were added, so there is nothing to judge; give at least one batch")
        return self.samples

    def _check(self, scores: Tensor, labels: Tensor) -> None:
        if scores.dim() != 3 or labels.shape != scores.shape[1:2]:
            raise ShapeError(
                f"scores have shape {tuple(scores.shape)} and classes {tuple(labels.shape)}; "
                "expected (T, B, classes) and (B,)"
            )
        known = len(self._correct_by_step), len(self._confusion)
        if self.samples and known != (scores.shape[0], scores.shape[2]):
            raise ShapeError(
                f"a batch has {scores.shape[0]} steps and {scores.shape[2]} classes after batches of {known[0]} and "
                f"{known[1]}; judge them apart"
            )
