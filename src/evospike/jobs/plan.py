"""What a run decides once, before its first evaluation, and every worker and resume obeys.

The decisions follow from the recipe, the shapes of the data and the machine by the rules stated here; they are written
to `plan.json`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

import numpy as np
import torch

from evospike.core.errors import RunError, SettingsError
from evospike.core.limits import MOST_PROCESSES, MOST_REPEATS
from evospike.core.progress import tell
from evospike.core.settings import differences, require
from evospike.core.threads import resolved_threads
from evospike.data.task import Task
from evospike.genetic.contraction import plan_contractions
from evospike.genetic.encode import encode_with
from evospike.genetic.settings import EncodingSettings
from evospike.jobs.architecture import spec_for
from evospike.jobs.arms import Arm
from evospike.jobs.memory import require_training_memory
from evospike.jobs.recipe import Recipe
from evospike.models.build import build
from evospike.models.counts import count_layers, macs_per_step, neuron_units
from evospike.models.network import Network
from evospike.models.population import why_not
from evospike.models.spec import NetworkSpec
from evospike.neurons.fused import compiler_available, missing_compiler
from evospike.neurons.settings import Path
from evospike.sparse.allocation import Quota, allocate
from evospike.sparse.masks import prunable_tensors
from evospike.sparse.schedule import check_rewires, one_shot_step

FUSED_FROM_SECONDS = 600.0
"""Estimated length of a job from which compiling the neurons (about 20 s, cold) pays."""

MACS_PER_SECOND_AND_THREAD = 25e9
"""Multiply-accumulates of training a CPU thread does in a second, for the estimate: 50e9 in convolutions alone, half of
it with neurons, norms and the optimiser."""

GPU_MACS_PER_SECOND = 5e12
"""The same for a GPU: a guess on the low side, not measured yet."""

MOST_TOGETHER = 16
"""Candidates that a CUDA device trains at the same time, unless the recipe says how many."""

_DEVICE = re.compile(r"cpu|cuda:\d{1,4}", re.ASCII)
"""What a plan may name as its device."""

SHARE_OF_MEMORY = 0.5
"""Of a CUDA device's memory, what candidates that are trained together may be estimated to take."""


@dataclass(frozen=True)
class Plan:
    """Decided once per run.

    device: `cpu` or `cuda:N`. threads: CPU threads of each process. path: how neurons run. contractions: order of each
    genetic layer. spec: the network as JSON. data: digests of the splits a run may read before its end.
    versions: of what the numbers depend on. seconds: estimated length of the job on one worker. together: how many
    candidates of an evolution are trained at the same time as one network.
    """

    device: str
    threads: int
    path: Path
    contractions: Mapping[str, str]
    spec: str
    data: Mapping[str, str]
    versions: Mapping[str, str]
    seconds: float
    together: int = 1

    def to_plain(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Plan:
        values = {"together": 1, **values}  # plans of earlier releases do not say
        kinds: dict[str, Any] = {"device": str, "threads": int, "path": str, "spec": str, "seconds": (int, float)}
        kinds["together"] = int
        kinds |= dict.fromkeys(("contractions", "data", "versions"), dict)
        if set(values) != set(kinds) or not all(isinstance(values[name], kind) for name, kind in kinds.items()):
            raise RunError("plan.json of the run was altered; restore it or start a new run")
        plan = cls(**values)
        if not plan.is_sound():
            raise RunError("plan.json of the run was altered; restore it or start a new run")
        return plan

    def is_sound(self) -> bool:
        """Whether every value is one that a run could have decided."""
        texts = (*self.contractions.values(), *self.data.values(), *self.versions.values())
        return (
            1 <= self.threads <= MOST_PROCESSES
            and 1 <= self.together <= MOST_REPEATS
            and self.path in get_args(Path)
            and _DEVICE.fullmatch(self.device) is not None
            and math.isfinite(self.seconds)
            and all(isinstance(text, str) for text in texts)
        )


def make_plan(recipe: Recipe, task: Task, *, evolves: bool) -> Plan:
    """Decide for a recipe on its data. Raises: SpecError, SettingsError, EncodingError, RunError (no such device)."""
    spec = spec_for(recipe.model, task.shape, len(task.classes), events=recipe.data.records_events)
    check_structure(recipe, spec, len(task.train), evolves=evolves)
    device = resolve_device(recipe.run.device)
    require_training_memory(recipe, spec, device, encoded=trains_own(recipe, evolves=evolves))
    threads = resolved_threads(recipe.run.threads)
    seconds = estimated_seconds(recipe, spec, len(task.train), device, threads, evolves=evolves)
    return Plan(
        device=device,
        threads=threads,
        path=choose_path(recipe.run.path, seconds, device),
        contractions=contraction_orders(recipe, spec) if trains_own(recipe, evolves=evolves) else {},
        spec=spec.to_json(),
        data=task.digests(),
        versions=versions(device),
        seconds=seconds,
        together=candidates_together(recipe, spec, device) if evolves else 1,
    )


def make_search_plan(recipe: Recipe, task: Task, seconds: float) -> Plan:
    """Decide for a search or a ranking, which has no one network. seconds: estimated length of the job."""
    device = resolve_device(recipe.run.device)
    return Plan(
        device=device,
        threads=resolved_threads(recipe.run.threads),
        path=choose_path(recipe.run.path, seconds, device),
        contractions={},
        spec="",
        data=task.digests(),
        versions=versions(device),
        seconds=seconds,
    )


def choose_path(wanted: str, seconds: float, device: str = "cpu") -> Path:
    """Eager for a short job, fused for one that takes ten minutes or more; eager where nothing can compile."""
    if wanted == "eager" or (wanted == "auto" and seconds < FUSED_FROM_SECONDS):
        return "eager"
    if compiler_available(device):
        return "fused"
    tell(f"{missing_compiler(device)} for the fused path; neurons run eagerly")
    return "eager"


def candidates_together(recipe: Recipe, spec: NetworkSpec, device: str) -> int:
    """How many candidates of an evolution are trained at the same time: as the recipe says, or as the device suits.

    One where they cannot be computed as one network; where the recipe asks for more, a notice says why.
    """
    settings = recipe.evolution
    if settings.mode == "random" or settings.together == 1 or settings.in_flight:
        return 1
    if not (settings.together or device.startswith("cuda")):
        return 1
    reason = _why_not_together(recipe, spec)
    if reason is None:
        return min(settings.together or _suiting(recipe, spec, device), settings.population)
    if settings.together:
        tell(f"candidates are trained one after the other: {reason}")
    return 1


def _suiting(recipe: Recipe, spec: NetworkSpec, device: str) -> int:
    """How many small networks suit a CUDA device; a generation is cut into groups that are as equal as can be."""
    each, _ = estimated_bytes(recipe, spec)
    fitting = int(SHARE_OF_MEMORY * device_memory(device) / each)
    most = max(min(MOST_TOGETHER, fitting), 1)
    population = recipe.evolution.population
    return math.ceil(population / math.ceil(population / most))


def device_memory(device: str) -> int:
    """Bytes of a CUDA device."""
    return int(torch.cuda.get_device_properties(device).total_memory)


def _why_not_together(recipe: Recipe, spec: NetworkSpec) -> str | None:
    if recipe.sparse.active:
        return "they are sparse"
    net = _without_values(recipe, spec)
    net.recompute_blocks = recipe.training.activations == "recomputed"
    return why_not([net, net])


def trains_own(recipe: Recipe, *, evolves: bool) -> bool:
    """Whether a run trains anything but dense twins, so that the recipe's encoding and structure matter."""
    return evolves or set(recipe.final.arms) != {"dense"}


def check_structure(recipe: Recipe, spec: NetworkSpec, samples: int, *, evolves: bool) -> None:
    """Refuse, before anything is trained, a structure that an arm could not have. Raises: SettingsError."""
    if trains_own(recipe, evolves=evolves):
        tell_of_fed(recipe, synapse_quotas(recipe, spec))
        if "low-rank" in recipe.final.arms:
            _check_low_rank(recipe, spec)
        steps = recipe.training.steps_per_epoch(samples)
        check_rewires(recipe.sparse, recipe.training.epochs, steps)
        _check_choice_of_epoch(recipe, recipe.training.epochs * steps)


def _check_low_rank(recipe: Recipe, spec: NetworkSpec) -> None:
    """The control whose encodings have other names and shapes than the recipe's own."""
    try:
        synapse_quotas(replace(recipe, encoding=Arm.of(recipe, "low-rank").encoding), spec)
    except SettingsError as error:
        raise SettingsError(f"arm 'low-rank': {error}") from None


def _check_choice_of_epoch(recipe: Recipe, total_steps: int) -> None:
    """Refuse to compare epochs that were chosen by validation images with a last one that is pruned unseen."""
    sparse = recipe.sparse
    at_once = any(Arm.of(recipe, name).sparse.method == "one_shot" for name in recipe.final.arms)
    if not (sparse.active and at_once and recipe.training.keep == "best"):
        return
    require(
        one_shot_step(replace(sparse, method="one_shot"), total_steps) != total_steps,
        "training.keep = 'best' chooses among pruned epochs, and of one-shot pruning after the last step there are "
        f"none; lower sparse.one_shot_at from {sparse.one_shot_at:g}, as to 0.75, or set training.keep = 'last'",
    )


def synapse_quotas(recipe: Recipe, spec: NetworkSpec) -> dict[str, Quota]:
    """What is to exist of every prunable tensor of the recipe's own network, by name. Raises: SettingsError."""
    tensors = prunable_tensors(_without_values(recipe, spec), recipe.sparse)
    return allocate({tensor.name: tensor.shape for tensor in tensors}, recipe.sparse)


def tell_of_fed(recipe: Recipe, quotas: Mapping[str, Quota]) -> None:
    """Say which layers the density would have left without a synapse."""
    if fed := [name for name, quota in quotas.items() if quota.fed]:
        tell(
            f"density {recipe.sparse.density:g} leaves {', '.join(fed)} without any synapse; each is given one, taken "
            "from the layer that has most (refused with sparse.starved=refuse)"
        )


def candidate_quotas(recipe: Recipe, spec: NetworkSpec) -> dict[str, Quota]:
    """What is to exist of a searched candidate, which stores its weights, when it is trained. Raises: SettingsError."""
    return synapse_quotas(replace(recipe, encoding=EncodingSettings(kind="dense")), spec)


def _without_values(recipe: Recipe, spec: NetworkSpec) -> Network:
    """The recipe's own network, encoded, that has shapes but no values."""
    with torch.device("meta"):
        net = build(spec, recipe.neuron, steps=recipe.model.steps)
        encode_with(net, recipe.encoding)
        return net


def contraction_orders(recipe: Recipe, spec: NetworkSpec) -> dict[str, str]:
    """The order of every genetic layer for the batches of training (rule: `genetic.contraction`).

    A layer whose generated weight is masked has to form it.
    """
    if recipe.encoding.kind == "dense":
        return {}
    net = _without_values(recipe, spec)
    samples = recipe.training.batch * recipe.model.steps
    positions = {layer.name: samples * int(np.prod(layer.output_shape[1:])) for layer in count_layers(spec)}
    orders: dict[str, str] = dict(plan_contractions(net, positions, force=recipe.encoding.contraction))
    if recipe.sparse.active and recipe.sparse.on == "weights":
        masked = [name for name, quota in synapse_quotas(recipe, spec).items() if not quota.dense]
        orders |= {name: "materialise" for name in masked if name in orders}
    return orders


def resolve_device(wanted: str) -> str:
    """The device a setting stands for. Raises: RunError when it is not there."""
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return "cpu"
    kind, _, number = ("cuda" if wanted in ("auto", "cuda") else wanted).partition(":")
    if kind != "cuda" or not (number or "0").isdecimal():
        raise RunError(f"device '{wanted}' is not known; give auto, cpu, cuda or cuda:N")
    if not torch.cuda.is_available():
        raise RunError(f"device '{wanted}' is asked for but there is no CUDA device; use auto or cpu")
    if int(number or 0) >= torch.cuda.device_count():
        raise RunError(f"device '{wanted}' is asked for but they are cuda:0 to cuda:{torch.cuda.device_count() - 1}")
    return f"cuda:{int(number or 0)}"


def training_count(recipe: Recipe, *, evolves: bool) -> tuple[int, int]:
    """Epochs of candidates and of final trainings, over a whole run."""
    evolution = recipe.evolution
    scores = evolution.scores if evolves and evolution.mode != "random" else 0
    return scores * evolution.proxy_epochs, len(recipe.final.trainings) * recipe.training.epochs


def estimated_seconds(
    recipe: Recipe, spec: NetworkSpec, samples: int, device: str, threads: int, *, evolves: bool
) -> float:
    """Length of a job on one worker, from static counts alone, so that it is the same wherever the run is repeated."""
    candidate_epochs, final_epochs = training_count(recipe, evolves=evolves)
    proxy = recipe.evolution.proxy_samples or samples
    shown = candidate_epochs * min(proxy, samples) + final_epochs * samples
    work = 3 * macs_per_step(spec) * recipe.model.steps * shown
    rate = GPU_MACS_PER_SECOND if device.startswith("cuda") else MACS_PER_SECOND_AND_THREAD * threads
    return work / rate


def estimated_bytes(recipe: Recipe, spec: NetworkSpec) -> tuple[int, int]:
    """Memory of one training and disk of a run, in bytes, from static counts.

    Memory: weights, gradients, two moments and what growth of synapses averages; for every sample and step what
    back-propagation keeps: the current before and after each norm, potential and spikes of each neuron.
    """
    layers = count_layers(spec)
    parameters = sum(layer.parameters for layer in layers)
    kept = sum(layer.outputs for layer in layers if layer.op in ("conv", "linear", "norm")) + 2 * neuron_units(spec)
    averages = recipe.sparse.averages
    memory = 4 * ((4 + averages) * parameters + kept * recipe.training.batch * recipe.model.steps)
    copies = 2 * (3 + (1 if recipe.training.ema else 0) + averages) + 1
    disk = 4 * parameters * copies * len(recipe.final.trainings)
    return memory, disk


def check_data(plan: Plan, task: Task) -> None:
    """Refuse data that are not those of the run. Raises: RunError."""
    if changed := differences(plan.data, task.digests()):
        raise RunError(f"the data changed since the run began ({'; '.join(changed)}); restore it or start a new run")


def versions(device: str) -> dict[str, str]:
    """What the numbers of a run depend on beside the recipe."""
    found = {"torch": torch.__version__, "numpy": np.__version__, "cpu": torch.backends.cpu.get_cpu_capability()}
    if device.startswith("cuda"):
        found["gpu"] = torch.cuda.get_device_name(device)
    return found
