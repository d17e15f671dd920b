"""Train any torch network with a tenth of its synapses, rewired while they learn, in a training loop of your own."""

import torch
from torch import nn
from torch.nn import functional as F

import evospike
from evospike.data.settings import DataSettings
from evospike.data.task import load_task

EPOCHS, BATCH = 15, 32

torch.manual_seed(0)
task = load_task(DataSettings("digits"), seed=0)
images, labels = task.train.take(torch.arange(len(task.train)))
images = images.float().flatten(1) / 255

net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
learner = evospike.sparsify(net, density=0.1)  # random masks, and zeros where nothing is
optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
steps = len(images) // BATCH
learner.begin(optimiser, {}, EPOCHS, steps)

for epoch in range(EPOCHS):
    for i, rows in enumerate(torch.randperm(len(images))[: steps * BATCH].split(BATCH)):
        loss = F.cross_entropy(net(images[rows]), labels[rows])
        optimiser.zero_grad()
        loss.backward()
        step = epoch * steps + i
        if not learner.gradients_ready(step):  # True: the graph was rewired, the update is skipped
            optimiser.step()
        learner.updated(step)
    record = learner.epoch_record()
    if epoch % 5 == 4:
        born, seen = int(record["born"]), record["exploration"]
        print(f"epoch {epoch + 1}: loss {loss:.3f}, {born} synapses born, {seen:.0%} of all positions tried")
learner.finish()

held, classes = task.validation.take(torch.arange(len(task.validation)))
accuracy = (net(held.float().flatten(1) / 255).argmax(1) == classes).float().mean()
existing = sum(int(layer.weight.count_nonzero()) for layer in net if isinstance(layer, nn.Linear))
print(f"validation accuracy {accuracy:.1%} with {existing:,} of {64 * 256 + 256 * 256 + 2560:,} weights")
