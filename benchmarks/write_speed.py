"""Write everything that shows the figures of the suite: README.md, docs/results/speed.md and the picture of the growth.

python benchmarks/write_speed.py benchmarks/results/speed.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from evospike.bench.document import read_document
from evospike.bench.pictures import growth_picture
from evospike.bench.tables import PAGE, PICTURE, full_page, short_table, with_block
from evospike.core.files import write_atomic

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("document", type=Path)
    document = read_document(parser.parse_args().document)
    readme = ROOT / "README.md"
    written = {
        readme: with_block(readme.read_text(encoding="utf-8"), short_table(document)).encode(),
        ROOT / PAGE: full_page(document).encode(),
    }
    if document.growths:
        written[ROOT / PICTURE] = growth_picture(document.growths)
    for path, content in written.items():
        write_atomic(path, content)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
