from __future__ import annotations

import dataclasses
import sqlite3
from contextlib import closing

import pytest

from evospike.core.errors import StoreError
from evospike.report.training.history import read_history


def test_fitness_ranks_and_weights_are_those_of_the_study(make_run):
    run = make_run()
    history = read_history(run.folder, run.recipe.evolution)
    assert len(history.generations) == len(run.study.history) == 3
    for mine, theirs in zip(history.generations, run.study.history, strict=True):
        assert mine.weights == theirs.weights
        assert tuple(candidate.fitness for candidate in mine.candidates) == theirs.fitness
        places = [candidate.place for candidate in mine.candidates]
        usable = sum(value is not None for value in theirs.fitness)
        assert places == [None if rank == usable else rank + 1 for rank in theirs.ranks]


def test_weights_fall_from_generation_to_generation(make_run):
    run = make_run()
    weights = [g.weights.temporal for g in read_history(run.folder, run.recipe.evolution).generations]
    assert weights[0] > weights[1] > weights[2] > 0


def test_shares_run_from_the_best_to_the_worst_of_each_generation(make_run):
    run = make_run()
    for generation in read_history(run.folder, run.recipe.evolution).generations:
        shares = {c.place: c.share for c in generation.candidates if c.ok}
        assert shares == {1: 0.0, 2: 0.25, 3: 0.5, 4: 0.75, 5: 1.0}
        assert generation.failed == 1


def test_spreads_are_shown_as_themselves_and_not_as_logarithms(make_run):
    run = make_run()
    history = read_history(run.folder, run.recipe.evolution)
    assert history.labels == ("spread of encoding", "spread of genes")
    assert history.logarithmic
    first = run.study.history[0].genotypes[0].values
    assert list(history.generations[0].candidates[0].values.values()) == pytest.approx([10**value for value in first])


def test_finalists_and_winner_are_those_of_the_study(make_run):
    run = make_run()
    history = read_history(run.folder, run.recipe.evolution)
    theirs = run.study
    assert [f.candidate for f in history.finalists] == [f.candidate for f in theirs.finalists]
    assert [f.validation_loss for f in history.finalists] == pytest.approx(
        [f.validation_loss for f in theirs.finalists]
    )
    assert (history.winner.generation, history.winner.index) == (theirs.winner.generation, theirs.winner.candidate)
    assert [f.candidate for f in history.finalists if f.winner] == [theirs.winner.candidate]


def test_medians_and_best_are_over_usable_candidates(make_run):
    run = make_run()
    generation = read_history(run.folder, run.recipe.evolution).generations[0]
    losses = sorted(c.terms["loss"] for c in generation.candidates if c.ok)
    assert (generation.best_loss, generation.median_of("loss")) == (losses[0], losses[2])


def test_a_generation_that_is_half_done_is_shown_as_far_as_it_goes(make_run):
    run = make_run(scores=8, finals=0)
    history = read_history(run.folder, run.recipe.evolution)
    assert [(len(g.candidates), g.asked, g.complete) for g in history.generations] == [(6, 6, True), (2, 6, False)]
    assert history.winner is None
    assert history.finalists == ()


def test_fixed_weights_and_validation_loss_are_obeyed(make_run):
    run = make_run(overrides=["evolution.temporal_weight=0.5", "evolution.loss_from=validation"])
    history = read_history(run.folder, run.recipe.evolution)
    assert history.generations[0].weights.temporal == 0.5
    assert history.generations[0].loss_term == "validation_loss"


def test_a_run_without_a_store_has_no_history(make_run):
    run = make_run("train")
    assert read_history(run.folder, run.recipe.evolution) is None


def test_an_altered_store_is_refused(make_run):
    run = make_run()
    with closing(sqlite3.connect(run.path / "study.sqlite")) as connection, connection:
        connection.execute("UPDATE records SET content = replace(content, 'loss', 'lass') WHERE kind = 'score'")
    with pytest.raises(StoreError, match=r"checksum of score 'candidate/0000/0000' .* does not match"):
        read_history(run.folder, run.recipe.evolution)


def test_other_finalist_draws_are_grouped_by_candidate(make_run):
    run = make_run(overrides=["evolution.finalists=3", "evolution.finalist_seeds=2"])
    history = read_history(run.folder, dataclasses.replace(run.recipe.evolution))
    assert [len(f.losses) for f in history.finalists] == [2, 2, 2]
