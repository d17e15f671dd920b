"""A brief training: what tells candidates apart before anything is trained to convergence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evospike.core.errors import SettingsError
from evospike.core.rng import Name
from evospike.data.task import ImageSet, proxy_subset
from evospike.genetic.groups import parameter_roles
from evospike.jobs.workshop import Workshop
from evospike.models.network import Network
from evospike.models.population import PopulationNetwork
from evospike.training.loop import Diverged, Trainer
from evospike.training.population import PopulationTrainer
from evospike.training.settings import TrainingSettings

Epochs = list[dict[str, float]]
"""One record per epoch (see `training.history.History`)."""


def proxy_images(shop: Workshop, count: int) -> ImageSet:
    """The fixed images all candidates of a run train on; 0: all training images."""
    train = shop.task.train
    return train if count == 0 or count >= len(train) else proxy_subset(train, count, shop.recipe.run.seed)


def train_briefly(net: Network, shop: Workshop, images: ImageSet, epochs: int, key: tuple[Name, ...]) -> Epochs:
    """Train in place for a few epochs with the recipe's settings, without averaging weights; the history by epoch.

    A network that is to be sparse loses its missing synapses here; it is rewired as often as the length allows.

    Raises: Diverged.
    """
    training = _brief_training(shop, images, epochs)
    structure = shop.structure(net, replace(shop.recipe.sparse, period_epochs=0.0), key)
    trainer = Trainer(net, shop.source(images, key), training, parameter_roles(net), structure=structure)
    return trainer.run().epochs


def train_briefly_together(
    nets: Sequence[Network], shop: Workshop, images: ImageSet, epochs: int, keys: Sequence[tuple[Name, ...]]
) -> list[Epochs | Diverged]:
    """`train_briefly` for several networks at the same time, each under its own key: what became of each.

    Raises: SettingsError when they are to be sparse, SpecError when they cannot be computed as one.
    """
    if shop.recipe.sparse.active:
        raise SettingsError("sparse networks are not trained together; set evolution.together=1")
    population = PopulationNetwork(nets)
    sources = {key: shop.source(images, key) for key in keys}
    training = _brief_training(shop, images, epochs)
    trainer = PopulationTrainer(population, [sources[key] for key in keys], training, parameter_roles(population))
    ends = trainer.run()
    population.scatter()
    for net in nets:
        net.eval()
    return [end if isinstance(end, Diverged) else end.epochs for end in ends]


def _brief_training(shop: Workshop, images: ImageSet, epochs: int) -> TrainingSettings:
    training = shop.recipe.training
    return replace(
        training,
        epochs=epochs,
        warmup_epochs=min(training.warmup_epochs, epochs / 4),
        batch=min(training.batch, len(images)),
        ema=0.0,
    )
