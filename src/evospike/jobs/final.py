"""One final training: an arm, a paired seed, to convergence, judged once on the test split."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evospike.core.errors import CheckpointError, RunError
from evospike.core.files import digest_tensors, load_tensors, save_tensors
from evospike.genetic.groups import parameter_roles
from evospike.genetic.wiring import initialise_from_dense
from evospike.jobs.arms import final_key
from evospike.jobs.folder import CONNECTIVITY, RESULT, WEIGHTS, RunFolder, read_record, write_record
from evospike.jobs.workshop import Workshop, parameter_count
from evospike.measure.accuracy import evaluate
from evospike.models.counts import dense_parameters
from evospike.models.network import Network
from evospike.sparse.masks import summarise
from evospike.sparse.picture import connectivity
from evospike.sparse.settings import SparseSettings
from evospike.sparse.storage import pack_state, unpack_state
from evospike.training.loop import Diverged, Hook, Trainer
from evospike.training.parallel import ALONE, Ranks


def train_arm(
    shop: Workshop,
    run: RunFolder,
    arm: str,
    repeat: int,
    spreads: Mapping[str, float] | None,
    *,
    hooks: Sequence[Hook] = (),
    notify: Callable[[str], None] = lambda line: None,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Train an arm from its last checkpoint or from the start; a finished training gives its stored result.

    Test data is opened here, after the last step, and nowhere else. ranks: processes that each call this to train the
    network together; all but the first give an empty result.
    Raises: Diverged; CheckpointError; what a hook raises.
    """
    folder = run.final_path(arm, repeat)
    finished = stored_result(folder) if ranks.rank == 0 else None
    if finished is not None:
        return finished
    key = final_key(repeat)
    net = shop.network(arm, key, spreads)
    if spreads is None and shop.recipe.starts_from_dense(arm):
        _start_from_dense(net, shop, run, repeat)
    sparse = shop.arm(arm).sparse
    trainer = Trainer(
        net,
        shop.source(shop.task.train, key),
        shop.recipe.training,
        parameter_roles(net),
        validate=_validation_of(shop, ranks),
        hooks=hooks,
        structure=shop.structure(net, sparse, key),
        folder=folder,
        notify=notify,
        ranks=ranks,
    )
    history = trainer.run()
    if ranks.rank > 0:
        return {}
    started = time.monotonic()
    result = {
        "arm": arm,
        "repeat": repeat,
        **_measured(net, shop),
        **_structure(net, sparse),
        "history": history.epochs,
        "seconds": sum(e["seconds"] for e in history.epochs) + time.monotonic() - started,
        "weights": digest_tensors(net.state_dict()),
        "processes": sorted(trainer.processes),
    }
    save_tensors(folder / WEIGHTS, pack_state(net.state_dict()), {"arm": arm, "repeat": str(repeat)})
    if sparse.active:
        write_record(folder / CONNECTIVITY, {"layers": connectivity(net, sparse)})
    write_record(folder / RESULT, result)
    return result


def stored_result(folder: Path) -> dict[str, Any] | None:
    """The result of a finished training whose weights are whole, else None."""
    try:
        result = read_record(folder / RESULT)
        weights = _read_weights(folder)
    except (RunError, CheckpointError):
        return None
    return result if result.get("weights") == digest_tensors(weights) else None


def load_weights(net: nn.Module, folder: Path) -> None:
    """Give a network the final weights of a training. Raises: CheckpointError."""
    weights = _read_weights(folder)
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"weights in {folder} do not fit the run's network: {str(error).splitlines()[0]}"
        ) from None


def _read_weights(folder: Path) -> dict[str, Tensor]:
    packed, _ = load_tensors(folder / WEIGHTS)
    return unpack_state(packed)


def _structure(net: Network, sparse: SparseSettings) -> dict[str, Any]:
    """How sparse the trained network is, counted on the network itself."""
    seen = summarise(net, sparse)
    layers = [{**asdict(layer), "density": layer.density} for layer in seen.layers]
    return {
        "density": seen.density,
        "synapse_density": seen.synapse_density,
        "connection_density": seen.connection_density,
        "active_parameters": seen.active_parameters,
        "structure": layers if sparse.active else None,
    }


def _measured(net: Network, shop: Workshop) -> dict[str, Any]:
    test = evaluate(net, shop.batches(shop.task.open_test()))
    if not math.isfinite(test.loss):
        raise Diverged("the loss of the trained network is not finite; lower training.rate or set training.clip")
    return {
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        "test_samples": test.samples,
        "firing_rate": test.firing_rate,
        "layer_rates": test.spikes.layer_rates(),
        "parameters": parameter_count(net),
        "dense_parameters": dense_parameters(shop.spec),
    }


def _validation_of(shop: Workshop, ranks: Ranks) -> Callable[[nn.Module], dict[str, float]]:
    """What is measured after each epoch; each process takes a part of the images."""
    images = shop.task.validation
    own = images if ranks.size == 1 else images.subset(torch.from_numpy(ranks.part(np.arange(len(images)))))

    def validate(net: nn.Module) -> dict[str, float]:
        if len(images) == 0:
            return {}
        seen = evaluate(net, shop.batches(own) if len(own) else (), count_spikes=False)
        return ranks.mean({"validation_accuracy": seen.accuracy, "validation_loss": seen.loss}, len(own) / len(images))

    return validate


def _start_from_dense(net: Network, shop: Workshop, run: RunFolder, repeat: int) -> None:
    folder = run.final_path("dense", repeat)
    if stored_result(folder) is None:
        raise RunError(f"arm 'svd' starts from the trained dense twin, which {folder} does not have; train it first")
    dense = shop.network("dense", final_key(repeat))
    load_weights(dense, folder)
    with torch.no_grad():
        initialise_from_dense(net, dense, seed=shop.recipe.run.seed)
