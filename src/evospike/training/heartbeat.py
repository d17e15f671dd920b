"""Whether the other processes of a training are there: each gives signs of life, and looks for those of the others.

A process that ends closes its connections, which the others notice. A machine that loses its power or its network
closes none. The signs go through the store by which `torchrun` lets its processes find one another, over a connection
of their own; they come from a thread, so a process gives them while it computes, waits or writes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from evospike.core.launch import Launch

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

BEAT_SECONDS = 3.0
"""Between two signs."""

SILENT_SECONDS = 45.0
"""Without a sign of a process for so long, it is lost. Only time in which this process runs is counted."""

_LOOK_SECONDS = 0.5
_STORE_SECONDS = 5.0


class Listener:
    """What is known of the other processes. Time is counted in looks, so that none passes for one that is suspended."""

    def __init__(self) -> None:
        self._looks = 0
        self._signs: dict[int, bytes] = {}
        self._last: dict[int, int] = {}

    def hear(self, rank: int, sign: bytes) -> None:
        """The sign of a process as it is now."""
        if self._signs.get(rank) != sign:
            self._signs[rank] = sign
            self._last[rank] = self._looks

    def look(self) -> list[int]:
        """Called every `_LOOK_SECONDS`: the processes that were heard of once and have been silent for too long."""
        self._looks += 1
        oldest = self._looks - SILENT_SECONDS / _LOOK_SECONDS
        return [rank for rank, last in sorted(self._last.items()) if last < oldest]


@contextmanager
def heartbeat(launch: Launch, lost: Callable[[str], None]) -> Iterator[None]:
    """Inside, this process gives signs, and `lost` is called, from a thread, once others have been silent for too long.

    lost: gets the reason. It is not watched who has not yet given a sign, nor anyone before all have.
    """
    leaving = threading.Event()
    listener = Listener()
    threads = [
        threading.Thread(target=_give_signs, args=(launch, listener, leaving), daemon=True),
        threading.Thread(target=_watch, args=(listener, lost, leaving), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        leaving.set()
        for thread in threads:
            thread.join(2 * _STORE_SECONDS)


def _give_signs(launch: Launch, listener: Listener, leaving: threading.Event) -> None:
    """Until the training is left. A store that does not answer is asked again; meanwhile the others are silent."""
    keys = [f"evospike/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{rank}" for rank in range(launch.size)]
    store: Store | None = None
    signs = 0
    while True:
        signs += 1
        try:
            store = store or _connected()
            store.set(keys[launch.rank], str(signs))
            if store.check(keys):
                for rank, sign in enumerate(store.multi_get(keys)):
                    if rank != launch.rank:
                        listener.hear(rank, sign)
        except RuntimeError:
            store = None
        if leaving.wait(BEAT_SECONDS):
            return


def _connected() -> Store:
    """Raises: RuntimeError where the store does not answer."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # not in every build of PyTorch

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    patience = timedelta(seconds=_STORE_SECONDS)
    store: Store = TCPStore(address, port, is_master=False, timeout=patience, wait_for_workers=False)
    return store


def _watch(listener: Listener, lost: Callable[[str], None], leaving: threading.Event) -> None:
    while not leaving.wait(_LOOK_SECONDS):
        if silent := listener.look():
            which = ", ".join(map(str, silent))
            lost(f"no sign of life from process {which} for {SILENT_SECONDS:.0f} s")
            return
