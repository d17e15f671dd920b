"""Growth on paper: a search on 1 to 10,000 workers, simulated with costs that are measured here and now.

    python benchmarks/growth.py -o benchmarks/results/growth.json [--folder FOLDER] [--quick]

Measures what the driver spends on a candidate, lets a simulation say what becomes of many workers, and runs the real
strategies on made-up workers for what not waiting costs in quality. FOLDER is on the disk that a record would lie on;
the default is the current one. `write_growth.py` renders the page.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import growth_costs as costs
import growth_quality as quality
from evospike.core.files import write_json
from evospike.core.progress import tell
from evospike.core.rng import stream
from growth_simulation import Costs, Course, Seconds, by_generations, in_steady_state, stretched
from measuring import circumstances

KINDS = ("evolution", "search")
WORKERS = (1, 10, 100, 1000, 10_000)
MEANS = (1.0, 60.0, 600.0)
"""Seconds that a candidate takes on average."""

VARIANTS: dict[str, dict[str, float]] = {
    "equal workers": {},
    "every second worker three times slower": {"slow_workers": 3.0},
    "one candidate in a hundred takes ten times longer": {"stragglers": 10.0},
}
VARIED_MEAN = 60.0
"""Seconds a candidate takes in the variants."""

FEWEST, PER_WORKER = 5000, 10
"""Candidates of a simulated search: that many for each worker that a generation has use for, and never fewer."""

IN_FLIGHT = (1, 4, 16, 64, 256, 1024)


class Measured:
    """What the driver spends on a candidate, from the figures of `measure`."""

    def __init__(self, figures: Mapping[str, Any]) -> None:
        self._figures = figures

    def costs(self, kind: str, population: int, workers: int) -> Costs:
        """Of a kind of search on so many workers, by generations; population 0: in the steady state."""
        record, hand = self._figures["record"], self.hand(workers)
        ask, tell = self._strategy(kind, population)
        if not population:
            ledger = _at(self._figures["ledger"], "in flight", "steady", workers)
            return Costs(ask, tell + ledger, record["score and turn"], hand)
        ledger = _at(self._figures["ledger"], "in flight", "generation", population)
        return Costs(
            ask, tell + ledger, record["score"] + _at(record["generation"], "population", "seconds", population), hand
        )

    def hand(self, workers: int) -> float:
        """Handing over a candidate and taking its answer, by Ray: as measured with two workers, and what more add."""
        ray, loop = self._figures["ray"], self._figures["loop"]
        more = [
            _at(rows, "workers", "seconds", workers) - _at(rows, "workers", "seconds", 2)
            for rows in (ray["wait"], loop)
        ]
        return float(ray["cpu"]) + sum(max(seconds, 0.0) for seconds in more)

    def most_workers(self, kind: str, mean: float, steady: bool) -> int:
        """How many workers the driver keeps at work, when candidates take `mean` seconds: W with W * cost(W) = mean."""
        low, high = 1.0, 1e6
        while high / low > 1.001:
            middle = (low * high) ** 0.5
            usual = quality.POPULATIONS[kind]
            spent = self.costs(kind, 0 if steady else max(usual, round(middle)), round(middle)).total
            low, high = (middle, high) if middle * spent <= mean else (low, middle)
        return round(low)

    def _strategy(self, kind: str, population: int) -> tuple[float, float]:
        """Seconds of asking and of telling."""
        figures = self._figures[kind]
        if kind == "evolution":
            told = population or quality.POPULATIONS[kind]
            return _at(figures, "population", "ask", told), _at(figures, "population", "tell", told)
        if not population:
            return figures["steady ask"], figures["steady tell"]
        return figures["ask"], _at(figures["tell"], "offspring", "tell", population)


def _at(rows: Sequence[Mapping[str, float]], by: str, name: str, value: float) -> float:
    """A figure at a value between those it was measured at; beyond the last it grows as between the last two."""
    known, figures = [row[by] for row in rows], [row[name] for row in rows]
    if value > known[-1] and len(known) > 1:
        slope = (figures[-1] - figures[-2]) / (known[-1] - known[-2])
        return float(figures[-1] + max(slope, 0.0) * (value - known[-1]))
    return float(np.interp(value, known, figures))


def measure(folder: str, quick: bool) -> dict[str, Any]:
    """All figures that the simulation needs."""
    memory = memory_folder()
    groups = (2, 12, 50, 100) if quick else (2, 12, 50, 100, 1000, 10_000)
    workers = (2, 10, 100) if quick else (2, 10, 100, 1000)
    steps = {
        "evolution": lambda: costs.evolution_costs(groups[1:]),
        "search": lambda: costs.search_costs(1 if quick else 5, groups[1:]),
        "ledger": lambda: costs.ledger_costs((1, *groups), 50 if quick else 300, memory),
        "record": lambda: costs.record_costs(folder, 20 if quick else 200, groups[1:]),
        "record in memory": lambda: costs.record_costs(memory or folder, 20 if quick else 200, groups[1:]),
        "resume": lambda: costs.resume_costs(memory, (100, 1000) if quick else (1000, 10_000, 100_000)),
        "local": lambda: costs.local_costs(100 if quick else 1000),
        "ray": lambda: costs.ray_costs(100 if quick else 1000, (*workers, 10_000)),
        "loop": lambda: costs.loop_costs(workers, 100),
        "durations": lambda: costs.durations(quick),
    }
    found = {}
    for name, step in steps.items():
        tell(f"measuring: {name}")
        found[name] = step()
    return found


def memory_folder() -> str | None:
    """A folder whose files are in memory, where there is one."""
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


def simulated(figures: Mapping[str, Any], workers: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Rows of simulated searches."""
    measured = Measured(figures)
    for kind in KINDS:
        for count in workers:
            drawn = stream(0, "growth", kind).choice(
                figures["durations"][kind]["relative"], max(FEWEST, PER_WORKER * count)
            )
            for mean in MEANS:
                for name, variant in VARIANTS.items() if mean == VARIED_MEAN else [("equal workers", {})]:
                    seconds = stretched((mean * drawn).tolist(), **variant)
                    for population in _ways(kind, count):
                        candidates = max(FEWEST, PER_WORKER * min(count, population or count))
                        course = _course(
                            candidates, population, count, seconds, measured.costs(kind, population, count)
                        )
                        row = {"kind": kind, "workers": count, "mean": mean, "variant": name, "population": population}
                        yield {**row, "candidates": candidates, **_facts(course, population, count)}


def _ways(kind: str, workers: int) -> list[int]:
    """0 for the steady state, the usual population, and one as large as the workers where those are more."""
    usual = quality.POPULATIONS[kind]
    return [0, usual] + [workers] * (workers > usual)


def _course(candidates: int, population: int, workers: int, seconds: Seconds, spent: Costs) -> Course:
    if population:
        return by_generations(candidates, population, workers, seconds, spent)
    return in_steady_state(candidates, workers, workers, seconds, spent)


def _facts(course: Course, population: int, workers: int) -> dict[str, Any]:
    """limit: as of a course; `population` where workers have nothing to do because a generation has fewer."""
    limit = course.limit
    return {
        "throughput": course.throughput,
        "working": course.working,
        "waiting": course.waiting,
        "barrier": course.barrier,
        "driver": course.driver.total / course.seconds,
        "record": course.driver.record / course.seconds,
        "limit": "population" if limit == "slowest" and 0 < population < workers else limit,
    }


def limits(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the driver spends on a candidate, and how many workers that keeps at work."""
    measured = Measured(figures)
    rows = []
    for kind in KINDS:
        for steady in (True, False):
            spent = measured.costs(kind, 0 if steady else quality.POPULATIONS[kind], 100)
            most = {f"{mean:g}": measured.most_workers(kind, mean, steady) for mean in MEANS}
            rows.append({"kind": kind, "steady": steady, **vars(spent), "total": spent.total, "most workers": most})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--folder", default=".")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    given = parser.parse_args()

    figures = measure(given.folder, given.quick)
    tell("simulating")
    rows = list(simulated(figures, WORKERS[:3] if given.quick else WORKERS))
    tell("searching on made-up workers")
    compared = []
    for kind, candidates, longer in (("evolution", 2048, 4), ("search", 1024, 1)):
        size = (128, 1, IN_FLIGHT[:3], 2) if given.quick else (candidates, longer, IN_FLIGHT, given.seeds)
        compared += quality.compared(kind, *size, figures["durations"][kind]["relative"])
    document = {
        "benchmark": "growth",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **circumstances(),
        "measured": figures,
        "limits": limits(figures),
        "simulated": rows,
        "quality": compared,
        "targets": quality.TARGETS,
    }
    write_json(given.output, document)
    print(given.output)


if __name__ == "__main__":
    main()
