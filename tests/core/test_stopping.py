"""A process is ended in time though its main thread is in a library's code, where Python calls no handler."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from evospike.core import stopping
from evospike.core.stopping import ended_in_time, stop_on_signals

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals work differently on Windows")

IN_A_LIBRARY = """
import hashlib, sys
from evospike.core import stopping
stopping.GRACE_SECONDS = float(sys.argv[1])
with stopping.stop_on_signals(lambda: print("workers ended", flush=True)):
    print("computes", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_library_that_computes_for_minutes_is_not_waited_for(signum: int, times: int) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    grace = 0.5 if times == 1 else 60.0
    with subprocess.Popen([sys.executable, "-c", IN_A_LIBRARY, str(grace)], text=True, **pipes) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "computes\n"
            time.sleep(0.1)
            started = time.monotonic()
            for number in range(times):
                time.sleep(0.1 * number)
                process.send_signal(signum)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 128 + signum
    assert out == "workers ended\n"
    assert err == "\nstopping at the next safe moment; once more to stop at once\n"
    assert (time.monotonic() - started > grace) == (times == 1)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
    """Exit codes of a process that would have ended at once, and when."""
    codes: list[tuple[int, float]] = []
    monkeypatch.setattr(os, "_exit", lambda code: codes.append((code, time.monotonic())))
    monkeypatch.setattr(stopping, "GRACE_SECONDS", 0.05)
    return codes


def computing(rounds: int) -> float:
    """When a library is done, in whose midst a signal arrived."""
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", rounds)
    done = time.monotonic()
    timer.join()
    return done


def test_the_end_comes_before_the_library_is_done(ended: list[tuple[int, float]]) -> None:
    with stop_on_signals() as stop:
        done = computing(2_000_000)
        ((code, at),) = ended
    assert (code, stop.signum) == (143, signal.SIGTERM)
    assert at < done


def descriptors() -> set[str]:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("the descriptors of a process can be listed on Linux only")
    return {name for name in os.listdir(folder) if (folder / name).exists()}


def test_nothing_is_left_behind(
    ended: list[tuple[int, float]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "GRACE_SECONDS", 60.0)  # a thread that is waited for on leaving says when it is over
    handlers = [signal.getsignal(signum) for signum in stopping.SIGNALS]
    threads, files = threading.enumerate(), descriptors()
    for number in range(20):
        with ended_in_time(), stop_on_signals() as stop:
            assert len(threading.enumerate()) == len(threads) + 2
            if number % 4 == 3:
                os.kill(os.getpid(), signal.SIGINT)
        assert bool(stop.signum) == (number % 4 == 3)
    with pytest.raises(KeyError), stop_on_signals():
        raise KeyError
    assert (threading.enumerate(), descriptors()) == (threads, files)
    assert [signal.getsignal(signum) for signum in stopping.SIGNALS] == handlers
    assert ended == []
    assert capsys.readouterr().err.count("once more") == 5


def test_the_descriptor_of_another_library_is_given_back() -> None:
    reading, writing = socket.socketpair()
    with reading, writing:
        writing.setblocking(False)
        before = signal.set_wakeup_fd(writing.fileno())
        try:
            with stop_on_signals():
                pass
            assert signal.set_wakeup_fd(writing.fileno()) == writing.fileno()
        finally:
            signal.set_wakeup_fd(before)


def test_other_signals_end_nothing(ended: list[tuple[int, float]]) -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with stop_on_signals() as stop:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.2)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (ended, stop.signum) == ([], 0)


def test_another_thread_leaves_signals_alone() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with stop_on_signals() as stop:
            stop.check()
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
