"""Bars: where they begin, and what their rate is of."""

from __future__ import annotations

import pytest

from evospike.core.progress import Bar, bar


def counted(shown: Bar) -> tuple[float, float]:
    """What was there at the beginning, and what is done."""
    return shown._bar.initial, shown._bar.n


def test_a_bar_of_new_work_begins_at_its_beginning() -> None:
    with bar("work", 80, "steps") as shown:
        shown.reach(0.4)
        assert counted(shown) == (0, 0.4)
        shown.reach(12)
        shown.reach(3)
        assert counted(shown) == (0, 12)


def test_what_was_done_before_a_resume_is_not_in_the_rate() -> None:
    with bar("work", 80, "steps") as shown:
        shown.reach(43)
        assert counted(shown) == (42, 43)
        shown.reach(80)
        assert counted(shown) == (42, 80)


def test_what_is_replayed_moves_the_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("work", 12, "scores") as shown:
        shown.reach(4, replayed=True)
        shown.reach(8, replayed=True)
        assert counted(shown) == (8, 8)
        shown.reach(10)
        assert counted(shown) == (9, 10)
    assert "10/12" in capsys.readouterr().err


def test_a_quiet_bar_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("work", 12, "scores", quiet=True) as shown:
        shown.reach(4, replayed=True)
        shown.reach(12)
        shown.say(best="1")
    assert capsys.readouterr().err == ""
