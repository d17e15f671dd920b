"""Write an architecture as data, build it, run it over six steps, and look at when its neurons fire."""

import torch

import evospike

b = evospike.SpecBuilder("by-hand", input_shape=(1, 8, 8), classes=10)
stem = b.conv_norm_neuron("stem.", "input", 16, role="stem")
first = b.conv_norm("first.", stem, 16)
# The inhibitory edge reads what the layer itself fired one step before.
held_back = b.node("sum", "add", first, evospike.Edge("first.neuron", delay=1), evospike.Edge("stem.norm", sign=-1))
fired = b.node("first.neuron", "neuron", held_back)
b.node("classifier", "linear", b.node("pool", "global_pool", fired), features=10, role="classifier")
spec = b.finish()

torch.manual_seed(0)
net = evospike.build(spec, evospike.NeuronSettings(decay=0.7), steps=6)
scores = net(torch.randn(4, 1, 8, 8))
print(f"scores over time: {tuple(scores.shape)}, digest of the architecture: {spec.digest()}")
