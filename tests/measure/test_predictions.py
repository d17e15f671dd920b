"""Accuracy, loss, rank and confusion against scores judged by hand and one by one."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evospike.core.errors import ShapeError
from evospike.measure.predictions import Predictions

# two steps of three samples: right at once, right after the second step, wrong after it
SCORES = torch.tensor([[[1.0, 0.0], [3.0, 1.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 4.0], [5.0, 0.0]]])
LABELS = torch.tensor([0, 1, 1])


def judged(scores: torch.Tensor, labels: torch.Tensor) -> Predictions:
    predictions = Predictions()
    predictions.add(scores, labels)
    return predictions


def test_scores_judged_by_hand() -> None:
    seen = judged(SCORES, LABELS)
    assert seen.samples == 3
    assert seen.accuracy_by_step == (2 / 3, 2 / 3)
    assert seen.accuracy == 2 / 3
    # margins of the true class after two steps: 1, 1 and -1.5
    assert seen.loss == pytest.approx(sum(math.log1p(math.exp(-margin)) for margin in (1, 1, -1.5)) / 3)
    assert seen.confusion == [[1, 0], [1, 1]]
    assert seen.top5 is None


def test_the_first_of_equal_scores_is_predicted() -> None:
    seen = judged(torch.zeros(2, 7, 7), torch.arange(7))
    assert seen.accuracy == 1 / 7
    assert seen.top5 == 5 / 7
    assert [row[0] for row in seen.confusion] == [1] * 7


@pytest.mark.parametrize(("classes", "top5"), [(2, None), (5, None), (6, 5 / 6)])
def test_five_of_at_most_five_classes_say_nothing(classes: int, top5: float | None) -> None:
    assert judged(torch.zeros(1, classes, classes), torch.arange(classes)).top5 == top5


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    steps=st.integers(1, 4),
    samples=st.integers(1, 9),
    classes=st.integers(2, 8),
    cut=st.integers(0, 9),
    data=st.data(),
)
def test_any_scores(steps: int, samples: int, classes: int, cut: int, data: st.DataObject) -> None:
    """Whole scores, so that means are compared exactly by comparing sums; many ties."""
    numbers = st.lists(st.integers(-3, 3), min_size=classes, max_size=classes)
    rows = data.draw(st.lists(st.lists(numbers, min_size=samples, max_size=samples), min_size=steps, max_size=steps))
    labels = data.draw(st.lists(st.integers(0, classes - 1), min_size=samples, max_size=samples))
    seen = Predictions()
    for part in (slice(0, cut), slice(cut, None)):
        if labels[part]:
            seen.add(torch.tensor(rows).float()[:, part], torch.tensor(labels[part]))
    sums = [
        [[sum(rows[s][i][c] for s in range(t + 1)) for c in range(classes)] for i in range(samples)]
        for t in range(steps)
    ]
    ranked = [sorted(range(classes), key=lambda c, row=row: (-row[c], c)) for row in sums[-1]]
    assert seen.accuracy_by_step == tuple(
        sum(row.index(max(row)) == label for row, label in zip(rows_at, labels, strict=True)) / samples
        for rows_at in sums
    )
    assert seen.accuracy == seen.accuracy_by_step[-1]
    top = sum(label in order[:5] for order, label in zip(ranked, labels, strict=True)) / samples
    assert seen.top5 == (top if classes > 5 else None)
    confusion = [[0] * classes for _ in range(classes)]
    for order, label in zip(ranked, labels, strict=True):
        confusion[label][order[0]] += 1
    assert seen.confusion == confusion
    losses = [
        math.log(sum(math.exp((score - row[label]) / steps) for score in row))
        for row, label in zip(sums[-1], labels, strict=True)
    ]
    assert seen.loss == pytest.approx(sum(losses) / samples, abs=1e-5)


def test_scores_that_are_no_numbers_are_no_success() -> None:
    scores = torch.zeros(1, 6, 6)
    scores[:, :, 5] = math.nan
    seen = judged(scores, torch.arange(6))
    assert seen.confusion == [[0] * 5 + [1]] * 6
    assert math.isnan(seen.loss)


@pytest.mark.parametrize("name", ["accuracy", "accuracy_by_step", "loss", "top5", "confusion"])
def test_nothing_added_is_refused(name: str) -> None:
    assert Predictions().samples == 0
    with pytest.raises(ShapeError, match="no scores were added"):
        getattr(Predictions(), name)


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        (torch.zeros(3, 2), torch.zeros(3)),
        (torch.zeros(2, 3, 2), torch.zeros(2)),
        (torch.zeros(2, 3, 2), torch.zeros(3, 1)),
    ],
)
def test_scores_and_classes_that_do_not_fit(scores: torch.Tensor, labels: torch.Tensor) -> None:
    with pytest.raises(ShapeError, match=r"expected \(T, B, classes\) and \(B,\)"):
        Predictions().add(scores, labels.long())


@pytest.mark.parametrize("shape", [(3, 3, 2), (2, 3, 4)])
def test_batches_of_another_form_are_refused_and_change_nothing(shape: tuple[int, int, int]) -> None:
    seen = judged(SCORES, LABELS)
    with pytest.raises(
        ShapeError, match=f"a batch has {shape[0]} steps and {shape[2]} classes after batches of 2 and 2"
    ):
        seen.add(torch.zeros(shape), LABELS)
    assert (seen.samples, seen.accuracy) == (3, 2 / 3)
