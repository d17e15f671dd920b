"""A process that gives no sign of life any more is noticed, and no other one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
import torch.distributed as dist

from evospike.core import launch
from evospike.core.launch import Launch, end_process
from evospike.layers.synchronised import PeerLost
from evospike.training import heartbeat as module
from evospike.training.heartbeat import Listener, heartbeat

SILENT_S = 1.0


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(module, "SILENT_SECONDS", SILENT_S)
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.05)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dist.TCPStore:
    """What torchrun has: a store that the environment names."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, timeout=timedelta(seconds=5), wait_for_workers=False)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(store.port))
    return store


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    last = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < last
        time.sleep(0.01)


def test_the_one_that_falls_silent_is_named_and_the_others_are_not(store: dist.TCPStore) -> None:
    said: dict[int, list[str]] = {0: [], 1: [], 2: []}
    threads = threading.active_count()
    with heartbeat(Launch(0, 0, 3), said[0].append), heartbeat(Launch(1, 1, 3), said[1].append):
        with heartbeat(Launch(2, 2, 3), said[2].append):
            time.sleep(1.5 * SILENT_S)
            assert said == {0: [], 1: [], 2: []}
        left = time.monotonic()
        until(lambda: said[0] and said[1])
        assert time.monotonic() - left > SILENT_S / 2
    reason = f"no sign of life from process 2 for {SILENT_S:.0f} s"
    assert said == {0: [reason], 1: [reason], 2: []}
    assert threading.active_count() == threads


def test_nobody_is_missed_before_all_have_come(store: dist.TCPStore) -> None:
    said: list[str] = []
    with heartbeat(Launch(0, 0, 3), said.append):
        with heartbeat(Launch(1, 1, 3), said.append):
            time.sleep(0.2)
        time.sleep(1.5 * SILENT_S)
    assert said == []


def test_where_the_store_is_gone_all_others_are_silent(store: dist.TCPStore, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def refused() -> dist.TCPStore:
        raise RuntimeError("no route to host")

    class Store:
        """Answers until it is gone."""

        gone = False

        def set(self, key: str, value: str) -> None:
            self._require()
            store.set(key, value)

        def check(self, keys: list[str]) -> bool:
            self._require()
            return store.check(keys)

        def multi_get(self, keys: list[str]) -> list[bytes]:
            self._require()
            return store.multi_get(keys)

        def _require(self) -> None:
            if Store.gone:
                raise RuntimeError("connection reset by peer")

    monkeypatch.setattr(module, "_connected", Store)
    store.set("evospike/0/1", "1")
    counting = threading.Event()

    def other() -> None:
        sign = 1
        while not counting.wait(0.05):
            sign += 1
            store.set("evospike/0/1", str(sign))

    thread = threading.Thread(target=other)
    thread.start()
    try:
        with heartbeat(Launch(0, 0, 2), said.append):
            time.sleep(0.2)
            assert said == []
            Store.gone = True
            monkeypatch.setattr(module, "_connected", refused)
            until(lambda: said)
    finally:
        counting.set()
        thread.join()
    assert said == [f"no sign of life from process 1 for {SILENT_S:.0f} s"]


def test_time_in_which_this_process_was_suspended_is_not_counted() -> None:
    listener = Listener()
    listener.hear(1, b"1")
    looks = int(SILENT_S / module._LOOK_SECONDS)
    for _ in range(looks):
        assert listener.look() == []
    time.sleep(SILENT_S)
    listener.hear(1, b"2")
    for _ in range(looks):
        assert listener.look() == []
        listener.hear(1, b"2")  # the same sign is none
    assert listener.look() == [1]
    listener.hear(1, b"3")
    assert listener.look() == []


@pytest.mark.parametrize("rank", [0, 1])
def test_the_end_says_what_the_error_would(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: int
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(launch.os, "_exit", codes.append)
    error = PeerLost("no sign of life from process 3 for 45 s")
    end_process(Launch(rank, rank, 4), error)
    who = "evospike: " if rank == 0 else "notice: process 1 of 4: "
    assert capsys.readouterr().err == f"{who}{error}\n"
    assert "another process of this training ended or does not answer (no sign of life" in str(error)
    assert codes == [2]
