"""Draw architectures from a space, score them untrained on real digits, and look at what the best one is made of."""

from __future__ import annotations

import torch

from evospike.core.rng import stream
from evospike.data.settings import DataSettings
from evospike.data.task import load_task
from evospike.measure.dissimilarity import Dissimilarity, batch_statistics
from evospike.models.build import build
from evospike.models.counts import dense_parameters
from evospike.models.init import draw_stored
from evospike.search.decode import decode, edge_counts
from evospike.search.settings import SpaceSettings
from evospike.search.space import Space

task = load_task(DataSettings(source="digits"), seed=0)
images, _ = task.train.take(torch.arange(64))
x = images.float() / 255

space = Space(SpaceSettings(channels=4, motifs=("FE", "FI", "LI"), operations=("conv3", "conv5", "skip")))
rng = stream(0, "example")
scored = []
for _ in range(5):
    genome = space.genome(tuple(int(gene) for gene in rng.integers(0, [high + 1 for high in space.upper])))
    spec = decode(genome, task.shape, len(task.classes))
    net = build(spec, steps=4)
    draw_stored(net, seed=0)
    net.observer = seen = Dissimilarity("hamming_normalised", edge_counts(spec))
    with batch_statistics(net):
        net(x)
    scored.append((seen.score(), dense_parameters(spec), genome))
    print(f"score {seen.score():8.1f}   {dense_parameters(spec):9,} parameters   rate {seen.firing_rate():.3f}")

_, _, best = max(scored, key=lambda row: row[0])
for index, cell in enumerate(best.cells):
    print(f"cell {index}: {cell.motif} {' '.join(link.operation for link in cell.links)}")
