import math
import statistics

import pytest

from evospike.core.errors import RunError
from evospike.evolution.fitness import TermWeights, decay_factor, fitness, loss_spread, ranks, term_weights
from evospike.evolution.records import Score
from evospike.evolution.settings import EvolutionSettings


def ok(loss: float, **terms: float) -> Score:
    return Score("ok", terms={"loss": loss, **terms})


def test_decays_follow_the_methods_reference() -> None:
    assert [decay_factor("exponential", n, 5) for n in (0, 2, 4)] == [1.0, math.exp(-1.5), math.exp(-3)]
    assert [decay_factor("linear", n, 5) for n in range(5)] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    assert [decay_factor("inverse", n, 5) for n in range(3)] == [1.0, 1 / 2, 1 / 3]
    assert decay_factor("exponential", 0, 1) == 1.0


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("loss", (0, 0)), ("loss+temporal", (0.05, 0)), ("loss+entropy", (0, 0.05)), ("ste", (0.05, 0.05))],
)
def test_a_mode_chooses_the_terms(mode: str, expected: tuple[float, float]) -> None:
    weights = term_weights(EvolutionSettings(mode=mode), 0, spread=0.5)  # type: ignore[arg-type]
    assert (weights.temporal, weights.entropy) == pytest.approx(expected)


def test_fixed_weights_replace_the_scaled_ones_and_decay_too() -> None:
    settings = EvolutionSettings(temporal_weight=2.0, decay="inverse")
    assert term_weights(settings, 1, spread=0.5) == TermWeights(temporal=1.0, entropy=0.025)


def test_the_terms_are_rewards() -> None:
    score = ok(1.0, validation_loss=2.0, temporal=0.5, entropy=0.25)
    assert fitness(score, TermWeights(0.1, 0.2)) == pytest.approx(1.0 - 0.05 - 0.05)
    assert fitness(score, TermWeights(0, 0), "validation") == 2.0


def test_terms_without_weight_need_not_be_measured() -> None:
    assert fitness(ok(1.0), TermWeights(0, 0)) == 1.0
    with pytest.raises(RunError, match=r"gave no 'entropy' term \(it gave: loss\)"):
        fitness(ok(1.0), TermWeights(0, 0.1))


def test_only_ok_scores_have_a_fitness() -> None:
    assert fitness(Score("silent", "layer 'a'", {"loss": 0.0}), TermWeights(0, 0)) is None
    assert fitness(ok(math.nan), TermWeights(0, 0)) is None


def test_ranks_put_failures_and_nan_last_and_break_ties_by_index() -> None:
    assert ranks([2.0, None, 1.0, 2.0, math.nan, math.inf]) == [1, 3, 0, 2, 3, 3]
    assert ranks([None, None]) == [0, 0]
    assert ranks([]) == []


def test_spread_is_that_of_the_first_generation_with_two_losses() -> None:
    dead = [Score("silent"), ok(9.0)]
    assert loss_spread([dead, [ok(1.0), ok(3.0), Score("error")], [ok(0.0), ok(100.0)]], "training") == 1.0
    assert loss_spread([dead], "training") == 0.0
    losses = [0.3, 0.7, 0.2]
    assert loss_spread([[ok(x) for x in losses]], "training") == statistics.pstdev(losses)
