"""An evaluation as text for a terminal. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from textwrap import wrap
from typing import Any

from evospike.core.statistics import significant
from evospike.core.units import energy_text, energy_unit
from evospike.jobs.results import data_line

WIDTH = 110
_LABEL = 16
_NO_BREAK = "\N{NO-BREAK SPACE}"


def describe_evaluation(document: Mapping[str, Any]) -> str:
    """The document of `evaluate_run` as text of at most `WIDTH` columns: tables of numbers, every energy beside the
    name of its model."""
    numbers = chain(_learned(document), _size(document), _activity(document))
    sections = [_energy(document), _robustness(document), _layers(document), _neurons(document), _arms(document)]
    blocks = ("\n".join(lines) for lines in (_head(document), numbers, *sections))
    return "\n\n".join(block for block in blocks if block)


def _head(document: Mapping[str, Any]) -> Iterator[str]:
    yield from wrap(data_line(document), WIDTH)
    yield from wrap(
        f"{document['arm']} network of {document['run']} (evospike {document['verb']} {document['recipe']}): "
        f"{document['samples']:,} test samples, {document['steps']} steps, {_seeds(document['seeds'])}",
        WIDTH,
        break_on_hyphens=False,
    )


def _learned(document: Mapping[str, Any]) -> Iterator[str]:
    top5 = document["top5_accuracy"]
    yield from _fact(
        "accuracy",
        _share_with(document["test_accuracy"], document["test_accuracy_interval"]),
        "" if top5 is None else f"top five {top5:.2%}",
        f"loss {document['test_loss']:.4f}",
    )
    by_step = enumerate(document["accuracy_by_step"], 1)
    yield from _fact("after steps", *(f"{step}: {accuracy:.2%}" for step, accuracy in by_step))


def _size(document: Mapping[str, Any]) -> Iterator[str]:
    yield from _fact(
        "parameters",
        f"{_count(document['parameters'])} ({document['parameters'] / document['dense_parameters']:.1%} of dense "
        f"{_count(document['dense_parameters'])})",
        f"encodings {_count(document['encoding_parameters'])}",
        f"genes {_count(document['gene_parameters'])}",
        f"stored {_count(document['stored_parameters'])}",
        f"present {_count(document['active_parameters'])}",
    )
    yield from _fact(
        "density",
        f"{document['density']:.1%} of prunable numbers",
        f"{document['synapse_density']:.1%} of weights",
        f"{document['connection_density']:.1%} of connections",
    )
    yield from _fact(
        "bytes",
        f"{_count(document['bytes_on_disk'])} on disk",
        f"{_count(document['bytes_in_memory'])} in memory",
        f"{_count(document['dense_bytes_in_memory'])} dense in memory",
    )


def _activity(document: Mapping[str, Any]) -> Iterator[str]:
    yield from _fact(
        "spikes",
        f"{_count(document['spikes_per_sample'])} a sample",
        f"firing rate {document['firing_rate']:.4f}",
        f"{document['dead_units']:.1%} of units dead",
        f"{document['saturated_units']:.1%} saturated",
    )
    yield from _fact(
        "operations",
        f"{_count(document['accumulates'])} accumulates",
        f"{_count(document['multiply_accumulates'])} multiply-accumulates",
        f"{_count(document['synaptic_operations'])} synaptic operations",
        f"{_count(document['membrane_updates'])} membrane updates",
    )
    yield from _fact(
        "sparsity",
        f"{document['activation_sparsity']:.1%} of activations are zero",
        f"{document['connection_sparsity']:.1%} of weights",
    )


def _energy(document: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"{'energy of one sample':<20} {'this network':>14} {'dense twin':>14} {'ratio':>8} {'breaks even at rate':>28}"
    )
    for name, model in document["energy"].items():
        dense = model["dense_picojoules"]
        ratio = f"{model['picojoules'] / dense:.1%}" if dense else "-"
        yield (
            f"{name:<20} {energy_text(model['picojoules']):>14} {energy_text(dense):>14} {ratio:>8} "
            f"{_break_even(document['break_even'].get(name)):>28}"
        )
    for name, model in document["energy"].items():
        yield from _indented(f"{name}: {model['assumptions']} ({model['source']})")
    for name, model in document["break_even"].items():
        yield from _indented(f"break-even by {name}, {model['bits']:.0f} bits: {model['assumptions']}")


def _break_even(model: Mapping[str, Any] | None) -> str:
    if model is None:
        return "-"
    if model["firing_rate"] is None:
        return "none"
    if model["firing_rate"] > 1:
        return "always"
    return f"{model['firing_rate']:.4f} ({model['scale']:.3g} x its own)"


def _robustness(document: Mapping[str, Any]) -> Iterator[str]:
    found = document["robustness"]
    if found is None:
        return
    yield from wrap(
        f"robustness ({found['kind']}): noise of {found['strength']:g} of the input's norm, added to {_space(found)}, "
        f"{found['samples']:,} samples, {found['noise_seeds']} noise seeds",
        WIDTH,
    )
    yield from _fact(
        "accuracy",
        f"clean {found['clean']:.2%}",
        f"noisy {_share_with(found['noisy'], found['noisy_interval'])}",
        f"drop {100 * found['drop']:.2f} points",
    )
    for curve in found["curves"]:
        points = zip(curve["strengths"], curve["mean"], strict=True)
        yield from _fact(curve["name"], f"({curve['unit']})", *(f"{at:g}: {mean:.1%}" for at, mean in points))
    for note in found["notes"]:
        yield from _indented(note)


def _space(found: Mapping[str, Any]) -> str:
    return "raw pixels" if found["noise_space"] == "raw" else "normalised input"


def _layers(document: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"{'layer':<24} {'reads':<6} {'rate':>8} {'density':>8} {'passes':>6} {'MACs a pass':>15} "
        f"{'synaptic operations':>20} {'parameters':>12}"
    )
    for row in document["layers"]:
        rate = row["input_activity" if row["input_kind"] == "real" else "input_rate"]
        yield (
            f"{_short(row['name'], 24):<24} {row['input_kind']:<6} {rate:>8.4f} {row['density']:>8.1%} "
            f"{_count(row['passes']):>6} {_count(row['dense_macs']):>15} {_count(row['synaptic_operations']):>20} "
            f"{_count(row['parameters']):>12}"
        )
    yield from _indented("rate: mean of what a layer reads; of real values, the share that is not zero")


def _neurons(document: Mapping[str, Any]) -> Iterator[str]:
    yield f"{'neurons':<24} {'units':>10} {'rate':>7} {'spikes a sample':>16} {'dead':>7} {'saturated':>10}"
    for row in document["neurons"]:
        yield (
            f"{_short(row['name'], 24):<24} {row['units']:>10,} {row['rate']:>7.4f} {_count(row['spikes']):>16} "
            f"{row['dead']:>7.1%} {row['saturated']:>10.1%}"
        )


def _arms(document: Mapping[str, Any]) -> Iterator[str]:
    first, *others = document["arms"]
    if not others:
        return
    yield (
        f"{'network':<12} {'test accuracy':>18} {'parameters':>12} {'spikes a sample':>16} {'synaptic operations':>20}"
    )
    for arm in (first, *others):
        accuracy = _share_with(arm["test_accuracy"], arm["test_accuracy_interval"])
        yield (
            f"{arm['arm']:<12} {accuracy:>18} {_count(arm['parameters']):>12} {_count(arm['spikes_per_sample']):>16} "
            f"{_count(arm['synaptic_operations']):>20}"
        )
    for arm in others:
        yield f"{arm['arm']} minus {first['arm']}, paired over {_seeds(arm['seeds'])}"
        for key, difference in arm["difference"].items():
            name = key.replace("_", " ") if "." not in key else key
            yield f"  {name:<28} {_change(key, difference, len(arm['seeds']))}"


def _seeds(seeds: Sequence[Any]) -> str:
    return f"{len(seeds)} seeds" if len(seeds) > 1 else "one seed"


def _change(key: str, difference: Mapping[str, Any], seeds: int) -> str:
    """A difference in the unit of its number; every energy stands beside the name of its model."""
    mean, interval = difference["mean"], difference["interval"]
    if key.endswith("accuracy"):
        scale, unit, digits = 100.0, "points", 2
    elif key.startswith("energy."):
        size = energy_unit([mean, interval])
        scale, unit, digits = size.of(1.0), size.name, 3
    else:
        scale, unit, digits = 1.0, "", 1
    text = f"{scale * mean:+,.{digits}f}"
    if interval is not None:
        text += f" ± {scale * interval:,.{digits}f}"
    verdict = " (not significant)" if significant(mean, interval, seeds) is False else ""
    return f"{text} {unit}".rstrip() + verdict


def _fact(label: str, *values: str) -> list[str]:
    """Values behind their label, broken between values."""
    whole = ", ".join(value.replace(" ", _NO_BREAK) for value in values if value)
    indent = f"{_short(label, _LABEL):<{_LABEL}} "
    lines = wrap(whole, WIDTH, initial_indent=indent, subsequent_indent=" " * len(indent))
    return [line.replace(_NO_BREAK, " ") for line in lines]


def _indented(text: str) -> list[str]:
    return wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")


def _share_with(value: float, interval: float | None) -> str:
    return f"{value:.2%}" if interval is None else f"{100 * value:.2f} ± {100 * interval:.2f} %"


def _count(value: float) -> str:
    """A count, or the mean of counts: whole, or with one decimal."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def _short(name: str, width: int) -> str:
    return name if len(name) <= width else f"{name[: width - 1]}…"
