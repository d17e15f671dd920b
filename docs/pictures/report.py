"""Makes the README's picture from a report page (needs Chromium and Pillow; run from the root of the checkout).

evospike report RUN
python docs/pictures/report.py RUN/report.html docs/pictures/report.png
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from PIL import Image

sys.path.insert(0, "tests/report")
from browser import Browser, find_chromium

HIDE = (
    "document.head.insertAdjacentHTML('beforeend', '<style>"
    "#comparison figure, #comparison .note, #evolution .note, #evolution figcaption {display: none} "
    ".card {margin: 16px 0; padding: 22px 26px}</style>')"
)
BOX = """(() => { const a = document.getElementById('comparison').getBoundingClientRect(),
b = document.querySelector('#chart-candidates').getBoundingClientRect();
return [a.left + scrollX, a.top + scrollY, a.width, b.bottom - a.top]; })()"""


def main(page_path: Path, picture: Path) -> None:
    with Browser(find_chromium()) as page:
        page.open(page_path, 1000, 900, scale=1.2)
        page.evaluate(HIDE)
        time.sleep(0.5)
        x, y, width, height = page.evaluate(BOX)
        page.screenshot(picture, {"x": x - 20, "y": y - 14, "width": width + 40, "height": height + 28})
    colours = (
        Image.open(picture).convert("RGB").quantize(192, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    )
    colours.save(picture, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
