"""Candidates that are scored in groups: how a generation is cut, and that a kill never leaves part of a group."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from evospike.core.errors import StoreError
from evospike.core.files import digest_json
from evospike.core.settings import plain
from evospike.evolution.evaluate import Arrival, Evaluate, evaluate_together, evaluate_with
from evospike.evolution.executors.base import Outcome, Payload
from evospike.evolution.ledger import STUDY
from evospike.evolution.records import Genotype, Request, Score
from evospike.evolution.settings import EvolutionSettings
from evospike.evolution.store import Store
from evospike.evolution.study import Event, SearchSpace, Study

SETTINGS = EvolutionSettings(population=5, generations=1, finalists=2, finalist_seeds=2, together=2)


class Killed(BaseException):
    """Stands for kill -9."""


class Here:
    """An executor in this process, which works through payloads from the last to the first."""

    def __init__(self, score: Callable[[Payload], Any]) -> None:
        self.score, self.payloads = score, list[Payload]()

    def run(
        self, payloads: Sequence[Payload], check: Callable[[], None] | None = None
    ) -> Iterator[tuple[int, Outcome]]:
        self.payloads += payloads
        for index in reversed(range(len(payloads))):
            yield index, Outcome(self.score(payloads[index]), attempts=1 + index)


def in_company(payload: Payload) -> list[dict[str, Any]]:
    """A smooth landscape, and in it something that depends on who else is in the group."""
    company = int(digest_json(payload), 16) % 1000 / 1e5
    scores = []
    for request in payload["requests"]:
        x, y = request["genotype"]["values"]
        loss = (x + 1.5) ** 2 + (y + 0.5) ** 2 + company
        scores.append(
            Score("ok", terms={"loss": loss, "validation_loss": loss, "temporal": -x, "entropy": y}).to_json()
        )
    return scores


def study(store: Store, evaluate: Evaluate, on_event: Callable[[Event], None] | None = None) -> Study:
    return Study(store, SETTINGS, 5, SearchSpace.of(("a", "b"), SETTINGS), evaluate, on_event)


def killed_after(rows: int, store: Store, patch: pytest.MonkeyPatch) -> None:
    """Let a kill come after so many rows of scores were written, the row in the middle of a group included."""
    left, write = iter(range(rows)), store.record_score

    def record(request: Request, score: Score, attempts: int = 1) -> None:
        write(request, score, attempts)
        if next(left, None) is None:
            raise Killed

    patch.setattr(store, "record_score", record)


def requests(indices: Sequence[int], kind: Any = "candidate") -> list[Request]:
    return [Request(kind, 0, k, Genotype(("a", "b"), (0.1 * k, 0.2)), ("x",)) for k in indices]


def test_a_generation_is_cut_at_fixed_places() -> None:
    here = Here(in_company)
    evaluate = evaluate_together(here, 3)
    arrived = list(evaluate([*requests([1, 2, 3, 5, 7]), *requests([0, 1], "finalist")]))
    cut = [[request["index"] for request in payload["requests"]] for payload in here.payloads]
    assert cut == [[1, 2], [3, 5], [7], [0, 1]]
    assert [[request.index for request, _, _ in group] for group in arrived] == cut[::-1]
    assert [{attempts for _, _, attempts in group} for group in arrived] == [{4}, {3}, {2}, {1}]
    for group in arrived:
        payload = {"requests": [request.to_json() for request, _, _ in group]}
        assert [score.to_json() for _, score, _ in group] == in_company(payload)


@pytest.mark.parametrize(
    ("outcome", "statuses", "reason"),
    [
        (Outcome(None, "worker died twice", 2), ["error"] * 2, "worker died twice"),
        (Outcome(None, "not done after 3 s", 1, timed_out=True), ["timeout"] * 2, "not done after 3 s"),
        (Outcome({"status": "ok"}), ["error"] * 2, "evaluation gave no list of 2 scores"),
        (Outcome([{"status": "ok"}]), ["error"] * 2, "evaluation gave no list of 2 scores"),
        (Outcome([{"status": "ok"}, {}]), ["ok", "error"], "evaluation gave no score (KeyError: 'status')"),
    ],
)
def test_what_goes_wrong_with_a_group_is_the_score_of_each(outcome: Outcome, statuses: list[str], reason: str) -> None:
    class Broken(Here):
        def run(self, payloads: Sequence[Payload], check: Any = None) -> Iterator[tuple[int, Outcome]]:
            yield from ((index, outcome) for index in range(len(payloads)))

    (group,) = evaluate_together(Broken(in_company), 2)(requests([0, 1]))
    assert [score.status for _, score, _ in group] == statuses
    assert group[1][1].reason == reason


def test_one_that_ends_its_worker_does_not_take_its_group_with_it() -> None:
    """The group is scored one by one then, after all others, and still recorded as one."""

    class Deadly(Here):
        def run(self, payloads: Sequence[Payload], check: Any = None) -> Iterator[tuple[int, Outcome]]:
            for index, outcome in super().run(payloads):
                asked = [request["index"] for request in payloads[index]["requests"]]
                yield index, Outcome(None, "worker died twice", 2) if 3 in asked else outcome

    groups = list(evaluate_together(Deadly(in_company), 3)(requests(range(8))))
    assert [[request.index for request, _, _ in group] for group in groups] == [[6, 7], [0, 1, 2], [3, 4, 5]]
    assert [(score.status, attempts) for _, score, attempts in groups[-1]] == [("error", 4), ("ok", 4), ("ok", 5)]
    alone = [in_company({"requests": [request.to_json()]})[0] for request in requests([4, 5])]
    assert [score.to_json() for _, score, _ in groups[-1][1:]] == alone


def test_a_study_killed_in_the_middle_of_any_group_goes_on_as_if_unbroken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = evaluate_together(Here(in_company), SETTINGS.together)
    with Store.create(tmp_path / "unbroken") as store:
        result = study(store, evaluate).run()
        digest, scores = store.digest(), len(store.scores())
    assert scores == 9
    wholly = set()
    for rows in range(scores):
        path = tmp_path / str(rows)
        with Store.create(path) as store, monkeypatch.context() as patch:
            killed_after(rows, store, patch)
            with pytest.raises(Killed):
                study(store, evaluate).run()
        with Store.open(path) as store:
            wholly.add(len(store.scores()))
            assert study(store, evaluate).run() == result
            assert store.digest() == digest
    assert wholly == {0, 1, 3, 5, 7}, "the last group of the generation, of one candidate, arrives first"


def test_a_score_that_is_recorded_already_takes_its_group_back(tmp_path: Path) -> None:
    one, two, three = requests(range(3))
    with Store.create(tmp_path / "record") as store:
        store.record_score(two, Score("ok"))
        with pytest.raises(StoreError, match=r"score 'candidate/0000/0001' is recorded already"):
            store.record_scores([(one, Score("ok"), 1), (two, Score("ok"), 1), (three, Score("ok"), 1)])
        assert [item.request for item in store.scores()] == [two]
        store.record_scores([(one, Score("ok"), 1), (three, Score("silent"), 2)])
        assert [(item.request, item.attempts) for item in store.scores()] == [(one, 1), (two, 1), (three, 2)]


def test_a_group_is_one_transaction(tmp_path: Path) -> None:
    with Store.create(tmp_path / "record") as store, sqlite3.connect(store.path) as reader:
        seen = []
        store._connection.set_progress_handler(
            lambda: seen.append(reader.execute("SELECT count(*) FROM records").fetchone()[0]), 1
        )
        store.record_scores((request, Score("ok"), 1) for request in requests(range(4)))
        store._connection.set_progress_handler(None, 0)
        assert set(seen) == {0, 4}
        assert reader.execute("SELECT count(*) FROM records").fetchone()[0] == 4


def test_every_score_of_a_group_is_an_event(tmp_path: Path) -> None:
    events: list[Event] = []
    with Store.create(tmp_path / "record") as store:
        study(store, evaluate_together(Here(in_company), 2), events.append).run()
    assert [(event.kind, event.done) for event in events[:6]] == [
        *(("score", done) for done in range(1, 6)),
        ("generation", 5),
    ]


def test_groups_of_one_are_what_single_candidates_are(tmp_path: Path) -> None:
    def single(payload: Payload) -> dict[str, Any]:
        return in_company({"requests": [payload]})[0]

    digests = set()
    ways: dict[str, Evaluate] = {
        "each": evaluate_with(Here(single)),
        "together": evaluate_together(Here(in_company), 1),
    }
    for name, evaluate in ways.items():
        with Store.create(tmp_path / name) as store:
            study(store, evaluate).run()
            digests.add(store.digest())
    assert len(digests) == 1


def test_how_candidates_are_computed_does_not_define_a_study(tmp_path: Path) -> None:
    """A record that an earlier release made goes on, and its digest stays what it was; so does one by generations, of
    releases that knew nothing else.
    """
    with Store.create(tmp_path / "record") as store:
        study(store, evaluate_together(Here(in_company), 2)).run()
        defined = store.values()[STUDY]["settings"]
    assert set(plain(SETTINGS)) - set(defined) == {"together", "in_flight"}
    assert defined.items() <= plain(SETTINGS).items()


def test_an_evaluation_may_give_some_scores_alone_and_some_together(tmp_path: Path) -> None:
    def evaluate(asked: Sequence[Request]) -> Iterator[Arrival | list[Arrival]]:
        made = [(one, Score("ok", terms={"loss": 1.0, "validation_loss": 1.0}), 1) for one in asked]
        yield made[0]
        yield made[1:]

    with Store.create(tmp_path / "record") as store:
        loss = EvolutionSettings(population=4, generations=1, mode="loss")
        Study(store, loss, 0, SearchSpace.of(("a",), loss), evaluate).run()
        assert len(store.scores()) == 4 + 6
