"""The processes that train one network together: each has all of the network and a part of every batch.

All take the same steps. A step's gradients are added up over the processes before anything looks at them, and batch
norms normalise over the whole batch (`layers.synchronised`); so clipping, rewiring, averaging and the looks for what is
not finite give the same everywhere, without being told. That they did is checked by digests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from evospike.core.errors import Interrupted, RunError, SettingsError
from evospike.core.files import digest_tensors
from evospike.core.launch import Launch, end_process
from evospike.layers.spiking import TimeBatchNorm2d
from evospike.layers.synchronised import PeerLost, add_up, answered, of_every
from evospike.layers.weights import GeneratedWeight
from evospike.training.heartbeat import heartbeat

STEP_SECONDS = 45.0
"""How long a process waits for the numbers of the others within a step."""

PATIENCE_SECONDS = 3600.0
"""How long it waits for them where one may have more to do: in steps that may compile, and between two steps, while the
first one may be writing or measuring. A process that has ended is noticed at once, here and there; one whose machine is
gone, by its silence (`training.heartbeat`)."""


class Ranks:
    """The processes of a training, seen from one of them: here from one that is alone.

    rank: its number, from 0; only the first one writes. size: how many there are.
    """

    rank: int = 0
    size: int = 1

    def part(self, positions: np.ndarray) -> np.ndarray:
        """What this process takes of a batch."""
        return positions

    def require_samples(self, count: int) -> None:
        """Raises: SettingsError for a batch that does not have a sample for every process."""

    def synchronised(self, net: nn.Module) -> AbstractContextManager[None]:
        """Inside, the batch norms of a network normalise over the samples of all processes.

        Raises: SettingsError for a network with batch norms of another kind than ours.
        """
        return nullcontext()

    def backward(self, loss: Tensor, share: float, net: nn.Module) -> Tensor:
        """Give a network the gradients of the loss of the whole batch, and return that loss.

        share: of the batch, what this process has computed its mean loss from.
        """
        loss.backward()
        return loss.detach()

    def mean(self, numbers: Mapping[str, float], share: float) -> dict[str, float]:
        """Mean over the processes, each with its share."""
        return dict(numbers)

    def require_same(self, net: nn.Module, step: int) -> None:
        """Raises: RunError, in all processes, unless the network has the same bits in each after so many steps."""

    def stopping_together(self) -> AbstractContextManager[None]:
        """Around what may raise Interrupted in one process: it is then raised in all of them."""
        return nullcontext()

    def wait(self) -> None:
        """Until all processes are here."""

    def unhurried(self) -> AbstractContextManager[None]:
        """Around a step in which one process may compile what others have compiled already."""
        return nullcontext()

    def compute_on(self, device: str) -> str:
        """Make ready for a training on devices like this one; gives that of this process. All processes call it.

        Raises: RunError where PyTorch or the machine lacks what it takes.
        """
        return device

    def tell(self, message: Mapping[str, Any] | None) -> None:
        """Of the first process: what the others `hear`. None: that is all."""

    def hear(self) -> dict[str, Any] | None:
        """Of the others: what the first process told."""
        return None


ALONE = Ranks()


class JoinedRanks(Ranks):
    """One of several processes; make it with `joined`. Whatever waits for others raises PeerLost when one is lost."""

    def __init__(self, launch: Launch) -> None:
        self.rank, self.size, self._local_rank = launch.rank, launch.size, launch.local_rank
        self._group: dist.ProcessGroup | None = None

    @property
    def group(self) -> dist.ProcessGroup:
        """What exchanges tensors on the device of the training."""
        if self._group is None:
            self.compute_on("cpu")
        assert self._group is not None
        return self._group

    def compute_on(self, device: str) -> str:
        on_gpu = device.startswith("cuda")
        if on_gpu:
            self._require_gpus()
            device = f"cuda:{self._local_rank}"
            torch.cuda.set_device(device)
        with answered():
            self._group = dist.new_group(backend="nccl" if on_gpu else "gloo", timeout=timedelta(seconds=STEP_SECONDS))
        return device

    def _require_gpus(self) -> None:
        if not dist.is_nccl_available():
            raise RunError("this build of PyTorch has no NCCL, by which GPUs exchange gradients; use --device cpu")
        if self._local_rank >= torch.cuda.device_count():
            raise RunError(
                f"torchrun started more processes on this machine than its {torch.cuda.device_count()} GPUs; lower "
                "--nproc-per-node, or use --device cpu"
            )

    def part(self, positions: np.ndarray) -> np.ndarray:
        return np.array_split(positions, self.size)[self.rank]

    def require_samples(self, count: int) -> None:
        if count < self.size:
            raise SettingsError(
                f"{self.size} processes cannot share a batch of {count} samples; start fewer, or raise training.batch"
            )

    @contextmanager
    def synchronised(self, net: nn.Module) -> Iterator[None]:
        norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            if not isinstance(norm, TimeBatchNorm2d):
                raise SettingsError(
                    f"{type(norm).__name__} cannot normalise over the samples of several processes; use TimeBatchNorm2d"
                )
        ours = [norm for norm in norms if isinstance(norm, TimeBatchNorm2d)]
        for norm in ours:
            norm.group = self.group
        try:
            yield
        finally:
            for norm in ours:
                norm.group = None

    def backward(self, loss: Tensor, share: float, net: nn.Module) -> Tensor:
        own = loss * share
        own.backward()
        total = own.detach().clone()
        self._add_up_all([*_gradients(net), total])
        return total

    def _add_up_all(self, tensors: list[Tensor]) -> None:
        """Sums over the processes, in place: one exchange for each type of number."""
        for kind in {tensor.dtype: None for tensor in tensors}:
            own = [tensor for tensor in tensors if tensor.dtype == kind]
            row = add_up(torch.cat([tensor.flatten() for tensor in own]), self.group)
            for tensor, total in zip(own, row.split([tensor.numel() for tensor in own]), strict=True):
                tensor.copy_(total.view(tensor.shape))

    def mean(self, numbers: Mapping[str, float], share: float) -> dict[str, float]:
        own = torch.tensor([value * share for value in numbers.values()], dtype=torch.float64)
        with answered():
            dist.all_reduce(own)
        return dict(zip(numbers, own.tolist(), strict=True))

    def require_same(self, net: nn.Module, step: int) -> None:
        digest = bytes.fromhex(digest_tensors(net.state_dict())) + step.to_bytes(8, "little")
        digests = of_every(torch.frombuffer(bytearray(digest), dtype=torch.uint8), _all())
        if bool((digests != digests[0]).any()):
            raise RunError(
                f"the processes of this training have different networks at step {step}; start them from one build "
                "on machines of one kind that see the same run folder"
            )

    @contextmanager
    def stopping_together(self) -> Iterator[None]:
        wanted = torch.zeros(1, dtype=torch.int64)
        try:
            yield
        except Interrupted as stopped:
            wanted[0] = stopped.signum
        with answered():
            dist.all_reduce(wanted, dist.ReduceOp.MAX)
        if wanted[0]:
            raise Interrupted(int(wanted[0]))

    def wait(self) -> None:
        with answered():
            dist.all_reduce(torch.zeros(1))

    @contextmanager
    def unhurried(self) -> Iterator[None]:
        _wait_for_at_most(PATIENCE_SECONDS, self.group)
        try:
            yield
        finally:
            _wait_for_at_most(STEP_SECONDS, self.group)

    def tell(self, message: Mapping[str, Any] | None) -> None:
        text = json.dumps(message).encode()
        with answered():
            dist.broadcast(torch.tensor([len(text)]), 0)
            dist.broadcast(torch.frombuffer(bytearray(text), dtype=torch.uint8), 0)

    def hear(self) -> dict[str, Any] | None:
        length = torch.zeros(1, dtype=torch.int64)
        with answered():
            dist.broadcast(length, 0)
            text = torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(text, 0)
        message: dict[str, Any] | None = json.loads(text.numpy().tobytes())
        return message


@contextmanager
def joined(launch: Launch) -> Iterator[Ranks]:
    """The processes that were started together; when all is done, the first one tells the others that it is all.

    Where one has fallen silent, this process is ended with the line and the exit code that PeerLost leads to: it may be
    waiting in an exchange, which nothing can interrupt.
    Raises: RunError where PyTorch lacks what they speak by; PeerLost.
    """
    if launch.size == 1:
        yield ALONE
        return
    if not (dist.is_available() and dist.is_gloo_available()):
        raise RunError("this build of PyTorch has no gloo, by which processes talk; train in one process")
    with heartbeat(launch, lambda reason: end_process(launch, PeerLost(reason))):
        with answered():
            dist.init_process_group("gloo", timeout=timedelta(seconds=PATIENCE_SECONDS))
        ranks = JoinedRanks(launch)
        try:
            yield ranks
            if ranks.rank == 0:
                ranks.tell(None)
        finally:
            dist.destroy_process_group()


def _wait_for_at_most(seconds: float, group: dist.ProcessGroup) -> None:
    from torch.distributed.distributed_c10d import _set_pg_timeout  # not in every build of PyTorch

    _set_pg_timeout(timedelta(seconds=seconds), group)


def _all() -> dist.ProcessGroup:
    group = dist.group.WORLD
    assert group is not None
    return group


def _gradients(net: nn.Module) -> Iterator[Tensor]:
    """All that a backward pass has left: of parameters, and of generated weights that are watched."""
    for parameter in net.parameters():
        if parameter.grad is not None:
            yield parameter.grad
    for module in net.modules():
        if isinstance(module, GeneratedWeight) and module.weight_gradient is not None:
            yield module.weight_gradient
