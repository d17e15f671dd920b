import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evospike.core.errors import SettingsError, StoreError
from evospike.core.files import canonical_json
from evospike.core.settings import plain, read_settings
from evospike.evolution.evaluate import score_of
from evospike.evolution.executors.base import Outcome
from evospike.evolution.records import Genotype, Request, Score
from evospike.evolution.settings import EvolutionSettings

finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=50, deadline=None)
@given(finite, finite, st.dictionaries(st.text(max_size=5), finite, max_size=3))
def test_json_gives_back_every_bit(x: float, y: float, terms: dict[str, float]) -> None:
    request = Request("finalist", 4, 2, Genotype(("a", "b"), (x, y)), ("finalist", 2))
    again = Request.from_json(json.loads(canonical_json(request.to_json())))
    assert again == request
    assert [value.hex() for value in again.genotype.values] == [float(x).hex(), float(y).hex()]
    score = Score("ok", terms=terms, seconds=1 / 3)
    assert Score.from_json(json.loads(canonical_json(score.to_json()))) == score


def test_numbers_that_are_not_finite_become_a_status() -> None:
    score = Score("ok", terms={"loss": math.nan, "entropy": math.inf, "temporal": 1.0})
    assert (score.status, score.reason) == ("diverged", "entropy, loss not finite")
    assert score.terms == {"loss": None, "entropy": None, "temporal": 1.0}
    assert Score.from_json(json.loads(canonical_json(score.to_json()))) == score
    assert Score("silent", terms={"loss": math.nan}).status == "silent"


def test_reasons_are_one_line_and_seconds_no_outcome() -> None:
    assert Score("error", "a\n  b").reason == "a b"
    assert Score("ok", terms={"loss": 1.0}, seconds=1.0).outcome() == Score("ok", terms={"loss": 1.0}).outcome()


def test_broken_records_are_refused() -> None:
    with pytest.raises(SettingsError, match="give one value per distinct name"):
        Genotype(("a", "a"), (1.0, 2.0))
    with pytest.raises(SettingsError, match="every value must be a finite number"):
        Genotype(("a",), (math.nan,))
    with pytest.raises(StoreError, match="score has status 'fine'; expected one of ok, silent"):
        Score("fine")  # type: ignore[arg-type]


def test_requests_name_themselves() -> None:
    request = Request("candidate", 3, 7, Genotype(("a",), (0.0,)), ("generation", 3))
    assert str(request) == "candidate 7 of generation 3"
    assert request.key == "candidate/0003/0007"


@pytest.mark.parametrize(
    "value", [None, 3, {"status": "fine"}, {"terms": {}}, {"status": "ok", "terms": {"loss": "x"}}]
)
def test_an_evaluation_that_gives_no_score_is_an_error(value: object) -> None:
    score = score_of(Outcome(value))
    assert score.status == "error"
    assert score.reason.startswith("evaluation gave no score (")


def test_an_error_outcome_is_an_error_score() -> None:
    assert score_of(Outcome(None, "ValueError: no", 2)) == Score("error", "ValueError: no")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"population": 3}, "population=3 is too small to rank; give 4 or more"),
        ({"generations": 0}, "generations=0 leaves nothing to do"),
        ({"finalists": 13}, "finalists=13 exceeds population=12"),
        ({"proxy_samples": -1}, "proxy_samples=-1 is negative"),
        ({"lower": 1.0}, "lower=1.0 is not below upper=0.5"),
        ({"start_mean": -4.0}, r"start_mean=-4.0 lies outside the box \[-3.0, 0.5\]"),
        ({"start_step": 0.0}, "start_step=0.0 does not move"),
        ({"term_scale": -1.0}, "term_scale=-1.0 is negative"),
        ({"entropy_weight": -1.0}, "entropy_weight=-1.0 is negative"),
        ({"mode": "stee"}, "did you mean 'ste'"),
    ],
)
def test_settings_that_cannot_work_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_settings(EvolutionSettings, change)


def test_settings_survive_the_recipe() -> None:
    record = EvolutionSettings(mode="loss", temporal_weight=0.5)
    assert read_settings(EvolutionSettings, plain(record)) == record
