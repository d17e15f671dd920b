"""Every chart of the page of evolve or train, by its id."""

from __future__ import annotations

from evospike.report.figures import Chart
from evospike.report.training.evolution_charts import evolution_charts
from evospike.report.training.gather import TrainingFacts
from evospike.report.training.structure_charts import structure_charts
from evospike.report.training.training_charts import arms_chart, training_charts


def make_charts(facts: TrainingFacts) -> dict[str, Chart]:
    """Every chart that the run has data for, by name."""
    charts: list[Chart] = []
    if sum(len(arm.seeds) for arm in facts.arms) > 1:
        charts.append(arms_chart(facts.arms))
    if facts.history is not None and facts.history.candidates:
        charts += evolution_charts(facts.history)
    if facts.trainings:
        charts += training_charts(facts.trainings)
    if facts.structures:
        charts += structure_charts(facts.trainings, facts.structures)
    return {chart.name: chart for chart in charts}
