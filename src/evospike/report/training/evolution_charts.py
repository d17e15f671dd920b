"""Charts of an evolution: candidates in the plane of their spreads, and their terms by generation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from evospike.report.figures import (
    SYMBOLS,
    Chart,
    Plain,
    axis_of,
    count_axis,
    journey,
    line_trace,
    plain_layout,
    safe,
    short,
    wide_layout,
)
from evospike.report.training.history import Candidate, Generation, History


def evolution_charts(history: History) -> list[Chart]:
    """The candidates, then the raw terms and the weights by generation."""
    plane = plane_chart(history) if len(history.labels) == 2 else strips_chart(history)
    terms = [
        term_chart("loss", history.generations[0].loss_term, "lower is better", history, with_best=True),
        term_chart("temporal", "temporal", "higher is better", history),
        term_chart("entropy", "entropy", "higher is better", history),
    ]
    return [plane, *(chart for chart in terms if chart is not None), weights_chart(history)]


def plane_chart(history: History) -> Chart:
    """Candidates in the plane of the two things that are varied."""
    across, up = history.labels

    def place(candidate: Candidate) -> list[tuple[float, float]]:
        return [(candidate.values[across], candidate.values[up])]

    axes = {
        "xaxis": _value_axis(across, history, [c.values[across] for c in history.candidates]),
        "yaxis": _value_axis(up, history, [c.values[up] for c in history.candidates]),
    }
    return Chart(
        "candidates", _candidates_summary(history), _candidate_traces(history, place), wide_layout(480, **axes)
    )


def strips_chart(history: History) -> Chart:
    """Candidates with one strip per dimension, generations one below the other in it; for any number but two."""
    count = max(len(history.generations), 1)

    def place(candidate: Candidate) -> list[tuple[float, float]]:
        offset = 0.64 * ((candidate.generation + 0.5) / count - 0.5)
        return [(candidate.values[label], k + offset) for k, label in enumerate(history.labels)]

    everything = [value for candidate in history.candidates for value in candidate.values.values()]
    rows = len(history.labels)
    axes = {
        "xaxis": _value_axis("spread", history, everything),
        "yaxis": {
            **axis_of(),
            "tickvals": list(range(rows)),
            "ticktext": [safe(label.removeprefix("spread of ")) for label in history.labels],
            "range": [rows - 0.5, -0.5],
            "showgrid": False,
        },
    }
    height = 260 + 80 * rows
    return Chart(
        "candidates", _candidates_summary(history), _candidate_traces(history, place), wide_layout(height, **axes)
    )


def term_chart(name: str, term: str, note: str, history: History, *, with_best: bool = False) -> Chart | None:
    """A raw term by generation: every usable candidate, their median, and the least one if asked."""
    numbers = [generation.number + 1 for generation in history.generations]
    dots = [(generation.number + 1, value) for generation in history.generations for value in generation.measured(term)]
    if not dots:
        return None
    medians = [short(generation.median_of(term)) for generation in history.generations]
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "candidates",
            "x": [x for x, _ in dots],
            "y": [short(y) for _, y in dots],
            "marker": {"color": "@muted", "size": 6, "opacity": 0.55},
            "hovertemplate": "generation %{x}<br>%{y:.4g}<extra></extra>",
        },
        line_trace("median", numbers, medians, "@series0", "solid"),
    ]
    if with_best:
        best = [short(generation.best_loss) for generation in history.generations]
        data.append(line_trace("best", numbers, best, "@series1", "dash"))
    summary = f"Raw {name} term by generation ({note}). {journey('Median', medians)}"
    axes = {"xaxis": count_axis("generation", numbers), "yaxis": axis_of(term.replace("_", " "))}
    return Chart(name, summary, tuple(data), plain_layout(270, **axes))


def weights_chart(history: History) -> Chart:
    """The weights of both terms by generation."""
    numbers = [generation.number + 1 for generation in history.generations]
    temporal = [short(generation.weights.temporal) for generation in history.generations]
    entropy = [short(generation.weights.entropy) for generation in history.generations]
    data = (
        line_trace("λ temporal", numbers, temporal, "@series0", "solid"),
        line_trace("λ entropy", numbers, entropy, "@series1", "dot"),
    )
    summary = f"Weights of both terms by generation. {journey('Temporal', temporal)} {journey('Entropy', entropy)}"
    axes = {
        "xaxis": count_axis("generation", numbers),
        "yaxis": {**axis_of("weight λ"), "rangemode": "tozero"},
    }
    return Chart("weights", summary, data, plain_layout(270, **axes))


def _candidate_traces(history: History, place: Callable[[Candidate], list[tuple[float, float]]]) -> tuple[Plain, ...]:
    """One trace per generation, one for what failed, one ring around the winner."""
    data = [_generation_trace(generation, place) for generation in history.generations]
    failed = [candidate for candidate in history.candidates if not candidate.ok]
    if failed:
        points = [(point, candidate) for candidate in failed for point in place(candidate)]
        cross = {"symbol": "x", "size": 9, "color": "@bad", "line": {"color": "@surface", "width": 1}}
        data.append({**_points("no usable score", points), "marker": cross})
    if history.winner is not None:
        points = [(point, history.winner) for point in place(history.winner)]
        ring = {"symbol": "circle-open", "size": 24, "color": "@winner", "line": {"width": 3}}
        data.append({**_points("winner", points), "marker": ring})
    return tuple(trace for trace in data if trace["x"])


def _generation_trace(generation: Generation, place: Callable[[Candidate], list[tuple[float, float]]]) -> Plain:
    usable = [candidate for candidate in generation.candidates if candidate.ok]
    points = [(point, candidate) for candidate in usable for point in place(candidate)]
    marker = {
        "symbol": SYMBOLS[generation.number % len(SYMBOLS)],
        "size": 12,
        "color": [short(candidate.share) for _, candidate in points],
        "coloraxis": "coloraxis",
        "line": {"color": "@text", "width": 1},
    }
    return {**_points(f"generation {generation.number + 1}", points), "marker": marker}


def _points(name: str, points: Sequence[tuple[tuple[float, float], Candidate]]) -> Plain:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [short(x) for (x, _), _ in points],
        "y": [short(y) for (_, y), _ in points],
        "hoverinfo": "text",
        "text": [_hover(candidate) for _, candidate in points],
    }


def _hover(candidate: Candidate) -> str:
    lines = [f"generation {candidate.generation + 1}, candidate {candidate.index + 1}"]
    if candidate.place is None:
        lines.append(safe(f"{candidate.status}: {candidate.reason}"))
    else:
        lines.append(f"place {candidate.place} of its generation, F = {candidate.fitness:.4f}")
    lines += [f"{safe(label)} {value:.4g}" for label, value in candidate.values.items()]
    terms = ("loss", "validation_loss", "temporal", "entropy", "firing_rate")
    known = {name: candidate.terms.get(name) for name in terms}
    lines += [f"{name.replace('_', ' ')} {value:.4g}" for name, value in known.items() if value is not None]
    return "<br>".join(lines)


def _candidates_summary(history: History) -> str:
    candidates = history.candidates
    failed = sum(not candidate.ok for candidate in candidates)
    kinds = f" ({history.failures})" if failed else ""
    of = f"{len(candidates)} candidates of {len(history.generations)} generations"
    lines = [f"{of}, {failed} without a usable score{kinds}."]
    if history.winner is not None:
        where = ", ".join(f"{label} {value:.3g}" for label, value in history.winner.values.items())
        lines.append(f"The winner has {where}.")
    return " ".join(lines)


def _value_axis(label: str, history: History, values: Sequence[float]) -> Plain:
    """An axis of what is varied, with ticks that can be read also within one decade."""
    axis = axis_of(label + (" (log scale)" if history.logarithmic else ""))
    if not history.logarithmic:
        return axis
    low, high = math.log10(min(values)), math.log10(max(values))
    pad = max(0.08 * (high - low), 0.05)
    low, high = low - pad, high + pad
    ticks = log_ticks(low, high)
    return {
        **axis,
        "type": "log",
        "range": [short(low), short(high)],
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
    }


def log_ticks(low: float, high: float) -> list[float]:
    """Three to eight round numbers between two powers of ten: whole decades, else parts of them, else even steps.

    low, high: at least a tenth of a decade apart.
    """
    decades = range(math.floor(low), math.ceil(high) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5, 7)):
        found = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
        found = [tick for tick in found if low <= math.log10(tick) <= high]
        if len(found) >= 3:
            return found[:: math.ceil(len(found) / 8)]
    return _even_ticks(10**low, 10**high)


def _even_ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers between two numbers, at the finest even steps that give no more."""
    decade = math.floor(math.log10(high - low)) - 1
    steps = (float(f"{digits}e{decade + up}") for up in range(3) for digits in (1, 2, 2.5, 5))
    found = ([step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)] for step in steps)
    return [float(f"{tick:.6g}") for tick in next(ticks for ticks in found if len(ticks) <= 6)]
