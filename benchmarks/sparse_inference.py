"""Does a sparse kernel beat the dense one on a CPU, one sample at a time?

    python benchmarks/sparse_inference.py [--threads 1] [--output FILE]

For layers as they occur in the shipped networks, at T steps of one sample: PyTorch's dense layer (oneDNN), against
PyTorch's sparse CSR product (MKL where the build has it) and SciPy's, of the same masked weight. A convolution is
unfolded first, which is part of its time. Both give the dense layer's output; repetitions are interleaved, medians and
quartiles of the ratios are reported. Above 1 the sparse kernel is faster.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn import functional as F

from measuring import write_result

STEPS = 4
REPETITIONS = 31


@dataclass(frozen=True)
class Case:
    """A layer: inputs, outputs, kernel (0: linear) and the side of its image."""

    name: str
    inputs: int
    outputs: int
    kernel: int = 0
    side: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.outputs, self.inputs, self.kernel, self.kernel) if self.kernel else (self.outputs, self.inputs)


CASES = [
    Case("linear 512 -> 512", 512, 512),
    Case("linear 4608 -> 10 (VGGSNN classifier)", 4608, 10),
    Case("linear 4096 -> 4096 (VGG-16 hidden)", 4096, 4096),
    Case("conv 64 -> 64, 16x16 (small32)", 64, 64, 3, 16),
    Case("conv 256 -> 768, 4x4 (small32)", 256, 768, 3, 4),
    Case("conv 256 -> 256, 12x12 (VGGSNN)", 256, 256, 3, 12),
    Case("conv 512 -> 512, 4x4 (ResNet-19)", 512, 512, 3, 4),
]


def masked_weight(case: Case, density: float) -> Tensor:
    """A weight of which exactly a share exists."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(case.shape, generator=generator)
    absent = torch.randperm(weight.numel(), generator=generator)[round(density * weight.numel()) :]
    weight.view(-1)[absent] = 0
    return weight


def kernels(case: Case, density: float) -> dict[str, Callable[[], Tensor]]:
    """The dense layer and its sparse rivals on one input of spikes."""
    weight = masked_weight(case, density)
    generator = torch.Generator().manual_seed(1)
    shape = (STEPS, case.inputs, case.side, case.side) if case.kernel else (STEPS, case.inputs)
    spikes = (torch.rand(shape, generator=generator) < 0.2).float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls its CSR tensors beta
        csr = weight.flatten(1).to_sparse_csr()
    other = csr_matrix(weight.flatten(1).numpy())
    if not case.kernel:
        return {
            "dense": lambda: F.linear(spikes, weight),
            "torch csr": lambda: (csr @ spikes.T).T,
            "scipy csr": lambda: torch.from_numpy((other @ spikes.numpy().T).T),
        }
    padding = case.kernel // 2
    dense, images = (
        weight.contiguous(memory_format=torch.channels_last),
        spikes.contiguous(memory_format=torch.channels_last),
    )

    def columns() -> Tensor:
        return F.unfold(spikes, case.kernel, padding=padding).permute(1, 0, 2).flatten(1)

    def as_images(y: Tensor) -> Tensor:
        return y.view(case.outputs, STEPS, case.side, case.side).transpose(0, 1)

    return {
        "dense": lambda: F.conv2d(images, dense, padding=padding),
        "torch csr": lambda: as_images(csr @ columns()),
        "scipy csr": lambda: as_images(torch.from_numpy(other @ columns().numpy())),
    }


def seconds(run: Callable[[], Tensor], calls: int) -> float:
    """Time of one call, over several."""
    started = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - started) / calls


def measure(case: Case, density: float) -> dict[str, Any]:
    """Check that all kernels agree, then time them in turns."""
    contenders = kernels(case, density)
    reference = contenders["dense"]()
    for name, run in contenders.items():
        torch.testing.assert_close(run(), reference, rtol=1e-3, atol=1e-3, msg=f"{name} differs in {case.name}")
    calls = max(1, int(0.004 / seconds(contenders["dense"], 3)))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(REPETITIONS):
        for name, run in contenders.items():
            times[name].append(seconds(run, calls))
    row: dict[str, Any] = {"layer": case.name, "density": density, "dense_ms": 1e3 * median(times["dense"])}
    for name in list(contenders)[1:]:
        ratios = [d / s for d, s in zip(times["dense"], times[name], strict=True)]
        low, _, high = quantiles(ratios, n=4)
        row[name] = {"ratio": median(ratios), "quartiles": [low, high]}
    return row


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = []
    print(f"{'layer':<40} {'density':>8} {'dense ms':>9} {'torch csr':>22} {'scipy csr':>22}")
    for case in CASES:
        for density in (0.1, 0.05, 0.02):
            row = measure(case, density)
            rows.append(row)
            shown = [
                f"{row[n]['ratio']:.2f} ({row[n]['quartiles'][0]:.2f}-{row[n]['quartiles'][1]:.2f})"
                for n in ("torch csr", "scipy csr")
            ]
            print(f"{case.name:<40} {density:>8} {row['dense_ms']:>9.3f} {shown[0]:>22} {shown[1]:>22}", flush=True)
    if given.output:
        write_result(given.output, "sparse_inference", rows)


if __name__ == "__main__":
    main()
