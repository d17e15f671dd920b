"""Turn the layers of any torch network genetic, look at what is saved, and turn them back."""

import torch
from torch import nn

import evospike

net = nn.Sequential(
    nn.Conv2d(3, 64, 3, padding=1),
    nn.ReLU(),
    nn.Conv2d(64, 128, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.Conv2d(128, 256, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(256, 10),
)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


stored = parameters(net)
net = evospike.encode(net, genes=48)
print(f"stored weights: {stored:,} parameters; genetic: {parameters(net):,} ({parameters(net) / stored:.0%})")

images = torch.randn(2, 3, 32, 32)
plain = evospike.materialise(net)
print(f"largest difference after turning it back: {(plain(images) - net(images)).abs().max():.1e}")
