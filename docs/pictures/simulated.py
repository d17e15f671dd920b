"""Draws what the simulated event camera sees of digits and of 32x32 photographs (needs Pillow and scikit-learn).

python docs/pictures/simulated.py docs/pictures/simulated.png

On the left the image, beside it ten frames of equal numbers of events. Blue: pixels that became brighter; red: darker.
The photographs, CC BY 2.0, by danielbuechele (flickr.com/photos/danielbuechele/6061409035) and vultilion
(flickr.com/photos/vultilion/6056698931), come with scikit-learn; they are cut to their middle and scaled.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor

from evospike.data.events.framing import to_frames
from evospike.data.events.simulate import simulate
from evospike.data.settings import DataSettings, EventSettings, SimulatorSettings
from evospike.data.task import load_task

SIDE, GAP, COLUMNS = 96, 4, 11
ON, OFF = np.array([1.0, 0.6, 0.1]), np.array([0.1, 0.7, 0.9])  # what a full frame takes from white
DIGITS_CAMERA, PHOTOGRAPHS_CAMERA = SimulatorSettings(sensor=16, shift=2.0), SimulatorSettings()


def photographs() -> Tensor:
    """The photographs as uint8 (2, 3, 32, 32)."""
    middles = [pixels[:, 106:533] for pixels in load_sample_images().images]
    small = [np.asarray(Image.fromarray(middle).resize((32, 32), Image.Resampling.BOX)) for middle in middles]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2)


def tile(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) enlarged to a square of SIDE, with a gap around them."""
    square = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    return np.pad(np.asarray(square), ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=200)


def drawn(frame: NDArray[np.uint8], full: float) -> NDArray[np.uint8]:
    """A frame of counts (2, H, W) as (H, W, 3); `full` events of one kind give the full colour."""
    off, on = np.minimum(frame / full, 1.0)[..., None]
    return (255 * np.clip(1.0 - on * ON - off * OFF, 0.0, 1.0)).astype(np.uint8)


def row(image: Tensor, place: int, camera: SimulatorSettings) -> NDArray[np.uint8]:
    """One image (C, H, W) and its frames."""
    (recording,) = simulate(image[None], torch.tensor([place]), camera, seed=0)
    frames = to_frames(recording, (camera.sensor, camera.sensor), EventSettings(frames=COLUMNS - 1))
    full = float(np.percentile(frames[frames > 0], 98))
    picture = image.expand(3, -1, -1).permute(1, 2, 0).numpy()
    return np.concatenate([tile(picture), *(tile(drawn(frame, full)) for frame in frames)], axis=1)


def main(picture: Path) -> None:
    digits = load_task(DataSettings(source="digits"), seed=0).train.images[:3]
    rows = [row(image, place, DIGITS_CAMERA) for place, image in enumerate(digits)]
    rows += [row(image, place, PHOTOGRAPHS_CAMERA) for place, image in enumerate(photographs())]
    Image.fromarray(np.concatenate(rows)).quantize(255, dither=Image.Dither.NONE).save(picture, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
