"""Tables for the terminal, the README and the docs; and that README and docs show the measured document."""

from __future__ import annotations

from pathlib import Path

import pytest

from evospike.bench.document import AbsentResult, Document, read_document
from evospike.bench.pictures import growth_picture
from evospike.bench.tables import (
    BEGIN,
    END,
    PAGE,
    PICTURE,
    case_table,
    fit_text,
    full_page,
    growth_table,
    number,
    short_table,
    summary,
    text_of,
    with_block,
)
from evospike.core.errors import RunError

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "benchmarks/results/speed.json"


@pytest.fixture
def document(case_of, growth_of, document_of) -> Document:
    rows = {
        "relu": ("limit", [10, 10, 30]),
        "evospike eager": ("evospike", [15, 15, 45]),
        "evospike fused": ("evospike", [11, 11, 33]),
        "alpha: plain": ("alpha", [22, 22, 66]),
    }
    training = case_of(
        *("train-vgg-small", rows, [AbsentResult("beta", "beta", "not installed: no beta")]),
        reference="relu",
        group="Training step",
    )
    starting = case_of("start-help", {"evospike": ("evospike", [0.25])}, unit="s", group="Start")
    dead = case_of("data-first", {}, reason="worker died twice", unit="s", group="Start")
    growth = growth_of("growth-steps", {1: [5.0], 2: [7.0], 4: [11.0], 8: "ValueError: too many"})
    return document_of([training, starting, dead], growths=(growth,))


TEXT = """\
train-vgg-small: about train-vgg-small
                   ms       quartiles  to relu     quartiles  remark
relu            10.00  10.00 to 20.00     1.00  1.00 to 1.00  reference
evospike eager  15.00  15.00 to 30.00     1.50  1.50 to 1.50
evospike fused  11.00  11.00 to 22.00     1.10  1.10 to 1.10  best of evospike
alpha: plain    22.00  22.00 to 44.00     2.20  2.20 to 2.20
beta                –               –        –             –  not installed: no beta"""


def test_a_case_in_a_terminal(document: Document) -> None:
    assert text_of(case_table(document.cases[0])) == TEXT
    assert text_of(case_table(document.cases[1])) == (
        "start-help: about start-help\n               s         quartiles\nevospike  0.2500  0.2500 to 0.2500"
    )
    assert text_of(case_table(document.cases[2])) == (
        "data-first: about data-first\nNothing was measured: worker died twice"
    )


def test_a_growth_in_a_terminal(document: Document) -> None:
    assert text_of(growth_table(document.growths[0])) == (
        "growth-steps: about growth-steps\n"
        "T     ms       quartiles  remark\n"
        "1  5.000  5.000 to 5.000\n"
        "2  7.000  7.000 to 7.000\n"
        "4  11.00  11.00 to 11.00\n"
        "8      –               –  ValueError: too many\n"
        "Fitted: 3.000 + 2.000 × T ms; grows as T to the power 0.57 (R² 0.993)."
    )


def test_fits_in_words(growth_of) -> None:
    assert fit_text(growth_of("g", {1: [1.0], 2: [2.0]})) == "Too few points for a fit."
    falling = growth_of("g", {1: [8.0], 2: [6.0], 3: [4.0]})
    assert fit_text(falling).startswith("Fitted: 10.00 − 2.000 × T ms; grows as T to the power −0.6")
    assert fit_text(growth_of("g", {1: [0.0], 2: [2.0], 3: [4.0]})) == "Fitted: −2.000 + 2.000 × T ms."


SHORT = """\
**A processor, 2 threads; each tool at its best setting, in brackets relative to evospike**

| T=4, 32x32 | evospike | ReLU in its place | alpha | beta |
| --- | ---: | ---: | ---: | ---: |
| Training step, VGG-small | 11.0 ms | 10.0 ms (0.91) | 22.0 ms (2.00) | -- |

Targets: 1 reached, 1 missed, 21 not measured. [All of them, and how it is measured](docs/results/speed.md).\
"""


def test_the_short_table(document: Document, document_of) -> None:
    """Target 1a is missed (1.1), 1b has a peer at 2.0."""
    only_training = document_of(document.cases[:1])
    assert short_table(only_training) == SHORT


PAGE_START = """\
# Speed

Written by `make bench` from one document, [speed.json](../../benchmarks/results/speed.json); never by hand. \
What was found out about missed targets is in [speed-notes.md](speed-notes.md).

## How it is measured
"""

PAGE_PARTS = (
    """
**Where it was measured**

|  |  |
| --- | --- |
| device | cpu, A processor |
| processor | A processor, AVX512 |
| cores, threads of a case | 2, 2 |
| memory | 8.0 GiB |
| system | Linux |
| Python, PyTorch, NumPy | 3.11.7, 2.13.0, 2.4.6 |
| evospike | 0.1.0, commit 0000000000000000000000000000000000000000 |
| measured | 2026-01-02T03:04:05+0000, 10 minutes |
| peer alpha | 1.0 |
| peer beta | not installed: no beta |
""",
    """
## Targets

**Targets**

|  | target | wanted | figure |  | remark |
| --- | --- | --- | ---: | --- | --- |
| 1a | Training step of VGG-small, fused, against the ReLU network in the same layout | \
at most 1.08 | 1.10 | missed |  |
""",
    "| at least 1.2 | 2.00 | reached | alpha; not measured: best of beta: not installed: no beta |\n",
    "| 7a | evospike --help | at most 0.3 s | 0.250 | reached |  |\n",
    "| 8a | CIFAR-10 from parquet to resident images, the first time | at most 15 s | -- | not measured "
    "| best of evospike: worker died twice |\n",
    "| at least 3 | -- | not measured | needs a CUDA device |\n",
    """
## Training step

**train-vgg-small: about train-vgg-small**

|  | ms | quartiles | to relu | quartiles | remark |
| --- | ---: | ---: | ---: | ---: | --- |
| relu | 10.00 | 10.00 to 20.00 | 1.00 | 1.00 to 1.00 | reference |
| evospike eager | 15.00 | 15.00 to 30.00 | 1.50 | 1.50 to 1.50 |  |
| evospike fused | 11.00 | 11.00 to 22.00 | 1.10 | 1.10 to 1.10 | best of evospike |
| alpha: plain | 22.00 | 22.00 to 44.00 | 2.20 | 2.20 to 2.20 |  |
| beta | -- | -- | -- | -- | not installed: no beta |

## Start

""",
    "\nNothing was measured: worker died twice\n",
    "\n## Growth\n\n![Figures against their variable, with the fitted lines](../pictures/speed-growth.svg)\n",
    "| 8 | -- | -- | ValueError: too many |\n\nFitted: 3.000 + 2.000 × T ms;",
)


def test_the_whole_page(document: Document) -> None:
    page = full_page(document)
    assert page.startswith(PAGE_START)
    places = [page.find(part) for part in PAGE_PARTS]
    assert -1 not in places, PAGE_PARTS[places.index(-1)]
    assert places == sorted(places)
    assert page == full_page(document)
    assert "\n\n\n" not in page


def test_what_has_to_be_said_of_other_runs(document_of) -> None:
    assert "| peers | no peers were looked for |" in full_page(document_of(peers=None))
    assert "**The run was interrupted: cases are missing.**" in full_page(document_of(complete=False))
    assert "10 minutes, quick" in full_page(document_of(quick=True))
    assert "## Growth" not in full_page(document_of())
    assert summary(document_of(quick=True)).startswith("quick run: ")
    assert summary(document_of()) == "targets: none measured"


def test_the_end_of_a_run_names_what_was_measured(document: Document) -> None:
    lines = summary(document).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["1a", "1b", "7a"]


def test_names_are_shown_as_they_are(case_of) -> None:
    from evospike.report.paper.tables import tables_markdown

    case = case_of("x", {"a|b <i>*c*": ("evospike", [1.0])}, [AbsentResult("n", "p", "no | pipe\nhere")])
    assert r"| a\|b \<i\>\*c\* |" in tables_markdown([case_table(case)])
    assert r"| no \| pipe here |" in tables_markdown([case_table(case)])


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0, 4, "0"),
        (0.00012345, 3, "0.000123"),
        (1.0, 3, "1.00"),
        (9.9996, 4, "10.00"),
        (61.204, 4, "61.20"),
        (999.96, 4, "1,000"),
        (123456.0, 4, "123,456"),
        (-2.5, 2, "−2.5"),
    ],
)
def test_numbers(value: float, digits: int, text: str) -> None:
    assert number(value, digits) == text


def test_a_block_is_replaced_between_its_marks() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert with_block(text, "new") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert with_block(with_block(text, "other"), "new") == with_block(text, "new")
    for broken in ("", BEGIN, f"{END} {BEGIN}", f"{BEGIN} {END} {END}", f"{BEGIN} {BEGIN} {END}"):
        with pytest.raises(RunError, match="once each, in that order"):
            with_block(broken, "new")


def test_the_picture_is_the_same_whenever_it_is_drawn(document: Document, growth_of) -> None:
    growths = [*document.growths, *(growth_of(f"curve {k}", {1: [1.0, 2.0], 2: [3.0, 3.5]}) for k in range(3))]
    picture = growth_picture(growths)
    assert picture == growth_picture(growths)
    text = picture.decode()
    assert all(f">{growth.name}</text>" in text for growth in growths)
    assert picture != growth_picture(growths[:3])


@pytest.mark.skipif(not MEASURED.is_file(), reason=f"{MEASURED.name} was not measured yet: make bench")
def test_readme_docs_and_picture_show_what_was_measured() -> None:
    measured = read_document(MEASURED)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == with_block(readme, short_table(measured))
    assert (ROOT / PAGE).read_text(encoding="utf-8") == full_page(measured)
    assert (ROOT / PICTURE).is_file() == bool(measured.growths)
