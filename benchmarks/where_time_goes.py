"""Where the time of a training step and of a forward pass goes: shares of PyTorch's operations, from its profiler.

python benchmarks/where_time_goes.py --repeats 5 --output benchmarks/results/where_time_goes.json
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from evospike.bench.cases import networks
from evospike.bench.cases.genetic import STORED, make_network
from evospike.bench.cases.networks import Entrant, Workload
from evospike.bench.cases.running import forward_pass, training_step, training_step_of
from evospike.core.allocator import keep_freed_memory
from evospike.models.presets import resnet19w
from measuring import write_result

KINDS = {
    "convolutions": ("convolution",),
    "norms": ("batch_norm",),
    "compiled neurons": ("CompiledFunction", "Torch-Compiled", "cpp_fused", "CompiledFxGraph", "TorchDynamo"),
    "pools": ("pool",),
    "optimiser": ("sgd", "Optimizer"),
}
"""Kinds of work, by what the names of its operations contain; everything else is 'other'."""


def kind_of(operation: str) -> str:
    return next((kind for kind, parts in KINDS.items() if any(part in operation for part in parts)), "other")


def shares(run: Callable[[], object], repeats: int) -> dict[str, object]:
    """Milliseconds of a call, and percent of its time by kind of work and by operation."""
    for _ in range(3):
        run()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(repeats):
            run()
    spent: dict[str, float] = defaultdict(float)
    operations = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
    for operation, microseconds in operations.items():
        spent[kind_of(operation)] += microseconds
    total = sum(spent.values())
    largest = sorted(operations, key=operations.__getitem__, reverse=True)[:10]
    return {
        "ms": round(1e-3 * total / repeats, 1),
        "percent": {kind: round(100 * part / total, 1) for kind, part in sorted(spent.items(), key=lambda i: -i[1])},
        "operations": {name: round(100 * operations[name] / total, 1) for name in largest},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32, help="of VGG-small; ResNet-19w has a quarter of it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    workload = Workload(networks.vgg_small(), arguments.batch)
    ours = Entrant("evospike fused", "evospike", path="fused")
    cases = {
        "training step of VGG-small, fused": training_step(workload, ours),
        "training step of VGG-small, relu": training_step(workload, networks.relu_entrant()),
        "training-mode forward of VGG-small, fused": forward_pass(workload, ours, "training"),
        "inference of VGG-small, folded": forward_pass(workload, ours, "folded"),
    }
    rows = []
    wide = Workload(resnet19w(networks.IMAGE, networks.CLASSES), arguments.batch // 4)
    for name, genes in (("stored", STORED), ("100 genes", 100)):
        cases[f"training step of ResNet-19w, {name}"] = training_step_of(make_network(wide, genes, "fused"), wide)
    for name, run in cases.items():
        row = {"case": name, **shares(run, arguments.repeats)}
        rows.append(row)
        print(f"{name}: {row['ms']} ms under the profiler; percent: {row['percent']}", flush=True)
    if arguments.output:
        write_result(arguments.output, "where_time_goes", rows)


if __name__ == "__main__":
    main()
