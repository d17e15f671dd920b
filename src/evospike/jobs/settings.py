"""Settings of the jobs themselves: what is trained in the end, where a run computes, how an architecture is scored.

Imports no torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Literal

from evospike.core.limits import MOST_PROCESSES, MOST_REPEATS
from evospike.core.settings import Settings, require
from evospike.evolution.settings import PopulationSettings

_ADDRESS = re.compile(r"(?:[^\s/:\[\]]+|\[[0-9a-fA-F:]+\]):(\d{1,5})")
"""HOST:PORT."""

ArmName = Literal["genetic", "sparse", "dense", "static", "one-shot", "random", "analytic", "low-rank", "svd"]
OWN = ("genetic", "sparse", "static", "one-shot")
"""Arms with the recipe's own encoding and wiring."""

ScoreName = Literal["dissimilarity", "similarity", "firing_rate", "parameters", "operations", "random", "training"]


@dataclass(frozen=True)
class FinalSettings(Settings):
    """The trainings at the end of a run, to convergence, each judged once on the test split.

    arms: networks trained side by side on the same seeds: `genetic` is the recipe's own encoding, wired as evolved (or
    as [wiring] says, for `train`); `dense` its twin with stored weights, all of them; `random` and `analytic` the same
    encoding from other initial values; `low-rank` the encoding without a gene matrix; `svd` the encoding of the trained
    dense twin. Where [sparse] sets a density, all but `dense` keep to it; `sparse` is another name of the recipe's own
    network then, `static` the same under a random mask that never changes, `one-shot` the same trained whole and pruned
    by magnitude. seeds: how many paired repetitions.
    """

    arms: tuple[ArmName, ...] = ("genetic",)
    seeds: int = 1

    @property
    def trainings(self) -> tuple[tuple[ArmName, int], ...]:
        """Every training, in order: its arm and its repetition."""
        return tuple((arm, repeat) for arm in self.arms for repeat in range(self.seeds))

    def validate(self) -> None:
        require(len(self.arms) > 0, "'arms' is empty; name at least one, as in arms = ['genetic']")
        require(len(set(self.arms)) == len(self.arms), f"'arms' names one twice: {', '.join(self.arms)}")
        require(self.seeds >= 1, f"'seeds' must be at least 1, given {self.seeds}")
        require(self.seeds <= MOST_REPEATS, f"'seeds' must be at most {MOST_REPEATS}, given {self.seeds}")
        require("svd" not in self.arms or "dense" in self.arms, "arm 'svd' starts from the trained arm 'dense'; add it")
        require(
            not {"genetic", "sparse"} <= set(self.arms),
            "arms 'genetic' and 'sparse' are one network, the recipe's own; name it once",
        )


@dataclass(frozen=True)
class RunSettings(Settings):
    """Where and how a run computes.

    seed: root of every random stream. workers: processes for evolution and final trainings; does not change results.
    threads: CPU threads of each process (0: as many as the machine has cores). device: `auto` takes CUDA when there is.
    path: how neurons run: `eager`, `fused` (compiled), or `auto`, decided from the length of the job.
    candidate_minutes: how long scoring a candidate may take, the opening of its worker's data included, on average over
    those that are scored together (0: as long as it takes). One that takes longer is ended, recorded as `timeout` and
    ranked last; choose many times what one usually takes, because what is recorded then depends on the machine.
    executor: where candidates are scored: `local`, processes on this machine; `ray`, workers of a Ray cluster (final
    trainings stay here); does not change results on machines of one kind. ray_address: of a running cluster, as
    HOST:PORT, or `auto` for the one this machine belongs to; empty starts one on this machine. gpu_share: of a CUDA
    device, what each worker on Ray takes. retries: how often a candidate is tried again whose worker on Ray
    died, or its machine; locally it is once.
    """

    seed: int = 0
    workers: int = 1
    threads: int = 1
    device: str = "auto"
    path: Literal["auto", "eager", "fused"] = "auto"
    candidate_minutes: float = 0.0
    executor: Literal["local", "ray"] = "local"
    ray_address: str = ""
    gpu_share: float = 1.0
    retries: int = 2

    def validate(self) -> None:
        require(
            self.candidate_minutes >= 0, f"'candidate_minutes' must not be negative, given {self.candidate_minutes:g}"
        )
        require(0 < self.gpu_share <= 1, f"'gpu_share' must be above 0 and at most 1, given {self.gpu_share:g}")
        require(self.retries >= 0, f"'retries' must not be negative, given {self.retries}")
        require(self.seed >= 0, f"'seed' must not be negative, given {self.seed}")
        require(self.workers >= 1, f"'workers' must be at least 1, given {self.workers}")
        require(self.threads >= 0, f"'threads' must not be negative, given {self.threads}")
        for name in ("workers", "threads"):
            value = getattr(self, name)
            require(value <= MOST_PROCESSES, f"'{name}' must be at most {MOST_PROCESSES}, given {value}")
        place = _ADDRESS.fullmatch(self.ray_address)
        require(
            self.ray_address in ("", "auto") or (place is not None and 0 < int(place[1]) < 1 << 16),
            f"'ray_address' must be HOST:PORT, as of the head of a Ray cluster, or auto; given '{self.ray_address}'",
        )
        known = self.device in ("auto", "cpu", "cuda") or self.device.startswith("cuda:")
        require(known, f"'device' must be auto, cpu, cuda or cuda:N, given '{self.device}'")


@dataclass(frozen=True)
class SearchSettings(PopulationSettings):
    """How architectures are searched: as a population, and how often (`evospike search`).

    seeds: independent searches, one after the other. All see the same probe batches and data; each draws its genomes
    and initial values from streams of its own, the first one those of a search alone.
    """

    seeds: int = 1

    @property
    def each(self) -> PopulationSettings:
        """The settings of every single search."""
        return PopulationSettings(**{one.name: getattr(self, one.name) for one in fields(PopulationSettings)})

    def validate(self) -> None:
        super().validate()
        require(self.seeds >= 1, f"'seeds' must be at least 1, given {self.seeds}")
        require(self.seeds <= MOST_REPEATS, f"'seeds' must be at most {MOST_REPEATS}, given {self.seeds}")


@dataclass(frozen=True)
class ScoringSettings(Settings):
    """How a searched architecture is scored, and what is not looked at.

    score: `dissimilarity` of the untrained network's spikes (methods 4.7; see [dissimilarity]), or its opposite,
    `similarity`; their `firing_rate`; the controls `parameters`, `operations` and `random`; or the validation accuracy
    of a short `training`. Which of them orders architectures well is measured by `evospike rank`.
    epochs, samples: length of a short training, of `training` and of `evospike rank`; 0 samples means all.
    min_parameters, max_parameters, max_operations: bounds on static counts, checked before scoring; operations are
    multiply-accumulates of one sample over all steps. max_spikes: bound on the mean spikes of one sample, checked in
    the scoring pass. 0: no bound.
    """

    score: ScoreName = "dissimilarity"
    epochs: int = 1
    samples: int = 0
    min_parameters: int = 0
    max_parameters: int = 0
    max_operations: int = 0
    max_spikes: int = 0

    def validate(self) -> None:
        require(self.epochs >= 1, f"'epochs' must be at least 1, given {self.epochs}")
        for name in ("samples", "min_parameters", "max_parameters", "max_operations", "max_spikes"):
            value = getattr(self, name)
            require(value >= 0, f"'{name}' must not be negative, given {value}; 0 means no bound")
        require(
            not self.max_parameters or self.min_parameters <= self.max_parameters,
            f"'min_parameters' ({self.min_parameters}) exceeds 'max_parameters' ({self.max_parameters}); swap them",
        )


@dataclass(frozen=True)
class RankSettings(Settings):
    """How scores are compared with accuracies (`evospike rank`).

    genomes: random architectures that are scored and trained briefly. seeds: short trainings of each, averaged.
    resamples: bootstrap resamples of the genomes behind every interval.
    """

    genomes: int = 60
    seeds: int = 1
    resamples: int = 2000

    def validate(self) -> None:
        require(self.genomes >= 3, f"'genomes' must be at least 3 to rank them, given {self.genomes}")
        require(self.seeds >= 1, f"'seeds' must be at least 1, given {self.seeds}")
        require(self.resamples >= 100, f"'resamples' must be at least 100, given {self.resamples}")
        for name, most in (("genomes", MOST_REPEATS), ("seeds", MOST_REPEATS), ("resamples", 100 * MOST_REPEATS)):
            require(getattr(self, name) <= most, f"'{name}' must be at most {most}, given {getattr(self, name)}")
