"""A brief training: what tells candidates apart before anything is trained to convergence."""

from __future__ import annotations

from dataclasses import replace

from evospike.core.rng import Name
from evospike.data.task import ImageSet, proxy_subset
from evospike.genetic.groups import parameter_roles
from evospike.jobs.workshop import Workshop
from evospike.models.network import Network
from evospike.training.loop import Trainer


def proxy_images(shop: Workshop, count: int) -> ImageSet:
    """The fixed images all candidates of a run train on; 0: all training images."""
    train = shop.task.train
    return train if count == 0 or count >= len(train) else proxy_subset(train, count, shop.recipe.run.seed)


def train_briefly(
    net: Network, shop: Workshop, images: ImageSet, epochs: int, key: tuple[Name, ...]
) -> list[dict[str, float]]:
    """Train in place for a few epochs with the recipe's settings, without averaging weights; the history by epoch.

    A network that is to be sparse loses its missing synapses here; it is rewired as often as the length allows.

    Raises: Diverged.
    """
    training = replace(
        shop.recipe.training,
        epochs=epochs,
        warmup_epochs=min(shop.recipe.training.warmup_epochs, epochs / 4),
        batch=min(shop.recipe.training.batch, len(images)),
        ema=0.0,
    )
    structure = shop.structure(net, replace(shop.recipe.sparse, period_epochs=0.0), key)
    trainer = Trainer(net, shop.source(images, key), training, parameter_roles(net), structure=structure)
    return trainer.run().epochs
