"""What every test shares: one thread per process, so that parallel test processes do not fight over two cores."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
