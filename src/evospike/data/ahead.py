"""Work on a pool of threads, some of it ahead of its use, with bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from evospike.core.threads import resolved_threads

T = TypeVar("T")


def ahead(jobs: Iterable[Callable[[], T]], waiting: int) -> Iterator[T]:
    """The results of the jobs, in order; at most `waiting` of them lie ready before they are asked for.

    What a job raises is raised here, after the results before it.
    """
    pool = ThreadPoolExecutor(min(8, resolved_threads(0)), thread_name_prefix="evospike-decode")
    started: deque[Future[T]] = deque()
    try:
        for job in jobs:
            started.append(pool.submit(job))
            if len(started) > waiting:
                yield started.popleft().result()
        while started:
            yield started.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
