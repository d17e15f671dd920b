"""The page of several runs in a real browser: drawn in pixels, nothing overflows, nothing is asked for."""

from __future__ import annotations

import importlib.util
import io
import itertools
import os
import shutil
from pathlib import Path

import pytest

from evospike.report.page import write_comparison

pytest.importorskip("plotly", reason="needs the extra 'report'")
pytest.importorskip("jinja2", reason="needs the extra 'report'")
image = pytest.importorskip("PIL.Image", reason="needs the extra 'data'")


def _neighbour(name):
    spec = importlib.util.spec_from_file_location(f"beside_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


browser, made = _neighbour("browser"), _neighbour("compare_runs")

HOSTILE = "<img src=x onerror=alert(3)>"
RECTANGLE = (
    "(r => ({{x: r.left + scrollX, y: r.top + scrollY, width: r.width, height: r.height}}))"
    "(document.querySelector({!r}).getBoundingClientRect())"
)
WIDE = "[...document.querySelectorAll('.chart')].filter(c => c.scrollWidth > c.clientWidth).map(c => c.id)"
CHARTS = "[...document.querySelectorAll('.chart')].map(c => c.id)"
SERIES = (
    "(s => Array.from({length: 6}, (_, k) => s.getPropertyValue('--series' + k).trim()))"
    "(getComputedStyle(document.documentElement))"
)


@pytest.fixture
def comparison(make_run, tmp_path):
    """A page of eight runs, of which two were evaluated; one name holds markup."""
    runs = made.Runs(make_run, tmp_path)
    names = [HOSTILE, "dense", "a-folder-with-a-very-long-name-of-its-own", *(f"run{k}" for k in range(5))]
    paths = []
    for k, name in enumerate(names):
        accuracies = tuple(0.90 + 0.01 * k + 0.004 * seed * (k + 1) / 8 for seed in range(3))
        settings = [f"encoding.genes={k + 2}", f"run.seed={k % 2}", f"training.epochs={k + 3}"]
        paths.append(runs(name, accuracies, overrides=settings))
    for path, scale in zip(paths[:2], (1.0, 1.7), strict=True):
        curves = [
            made.curve("noise", "of the norm", (0.95, 0.9 - 0.2 * scale, 0.3)),
            made.curve(HOSTILE, "x", (1, 0.4 * scale)),
        ]
        made.evaluate(
            path,
            [scale * count for count in (15e3, 16e3, 18e3)],
            noisy=(0.7, 0.71, 0.69),
            curves=curves,
            samples_digest="d",
        )
    return write_comparison(paths, tmp_path / "compare.html")


@pytest.fixture
def searches(make_search, tmp_path):
    """A page of eight runs of searches, of which two score otherwise; one name holds markup."""
    runs = made.Searches(make_search, tmp_path)
    names = [HOSTILE, "random", "a-folder-with-a-very-long-name-of-its-own", *(f"run{k}" for k in range(5))]
    paths = []
    for k, name in enumerate(names):
        otherwise = ["scoring.score=similarity"] if k in (2, 5) else []
        scores = tuple((1 if not otherwise else -1) * (2000.0 + 20 * k + 9 * (seed - 1)) for seed in range(3))
        grown = 1.0 + 0.2 * k
        paths.append(runs(name, scores, overrides=[f"space.cells={k + 4}", *otherwise], grown=grown))
    return write_comparison(paths, tmp_path / "searches.html")


@pytest.fixture
def rankings(make_ranking, tmp_path):
    """A page of eight rankings; one name holds markup."""
    paths = []
    for k in range(8):
        paths.append(tmp_path / (HOSTILE if k == 0 else f"ranked{k}"))
        shutil.move(make_ranking(hostile=k == 0, overrides=[f"run.seed={k}"]).path, paths[-1])
    return write_comparison(paths, tmp_path / "rankings.html")


@pytest.fixture
def artifacts(tmp_path):
    """Where screenshots are kept: the folder that EVOSPIKE_ARTIFACTS names, else the test's own."""
    folder = Path(os.environ.get("EVOSPIKE_ARTIFACTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def pixels(page, chart, path):
    """Every pixel of a chart as a colour, and how many there are of it."""
    clip = page.evaluate(RECTANGLE.format(f"#{chart}"))
    page.screenshot(path, clip)
    with image.open(io.BytesIO(path.read_bytes())) as picture:
        found = picture.convert("RGB")
        return {colour: count for count, colour in found.getcolors(found.width * found.height)}


def near(counts, colour):
    """How many pixels have a colour, given as #rrggbb."""
    wanted = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
    return sum(n for own, n in counts.items() if all(abs(a - b) <= 3 for a, b in zip(own, wanted, strict=True)))


@pytest.mark.skipif(browser.find_chromium() is None, reason="no Chromium is installed")
def test_every_chart_is_drawn_in_the_colours_of_its_runs(comparison, artifacts):
    with browser.Browser(browser.find_chromium()) as page:
        page.open(comparison, 1440, 900)
        assert page.errors == []
        assert page.requests == [comparison.as_uri()]
        charts = page.evaluate(CHARTS)
        assert len(charts) == 10
        series = page.evaluate(SERIES)
        light = {chart: pixels(page, chart, artifacts / f"compare-{chart}.png") for chart in charts}
        assert all(len(counts) > 20 for counts in light.values())
        # discs of the eight runs over parameters, lines of all in the trainings, of two in the robustness
        assert all(near(light["chart-over0"], colour) > 100 for colour in series)
        assert all(near(light["chart-validation"], colour) > 60 for colour in series)
        for chart in ("chart-over1", "chart-robustness-0", "chart-robustness-1"):
            assert all(near(light[chart], colour) > 100 for colour in series[:2])
            assert all(near(light[chart], colour) == 0 for colour in series[2:])

        # the theme follows the button, in pixels
        page.evaluate("document.getElementById('theme').click()")
        other = page.evaluate(SERIES)
        dark = pixels(page, "chart-over0", artifacts / "compare-dark-chart-over0.png")
        assert all(near(dark, colour) > 100 for colour in other)
        assert max(dark, key=dark.get) != max(light["chart-over0"], key=light["chart-over0"].get)


@pytest.mark.skipif(browser.find_chromium() is None, reason="no Chromium is installed")
def test_nothing_overflows_on_a_phone_or_a_screen_light_or_dark(comparison, artifacts):
    with browser.Browser(browser.find_chromium()) as page:
        for width, dark in itertools.product((390, 1440), (False, True)):
            page.open(comparison, width, 900, dark=dark)
            page.screenshot(artifacts / f"compare-{width}-{'dark' if dark else 'light'}.png")
            page.evaluate("[...document.querySelectorAll('details')].forEach(part => (part.open = true))")
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.evaluate(WIDE) == []
            assert page.errors == []
            assert page.requests == [comparison.as_uri()]


@pytest.mark.skipif(browser.find_chromium() is None, reason="no Chromium is installed")
def test_names_are_text_and_a_point_tells_its_run(comparison):
    with browser.Browser(browser.find_chromium()) as page:
        page.open(comparison, 1280, 900)
        assert page.evaluate("document.querySelectorAll('img').length") == 0
        assert page.evaluate("document.querySelectorAll('script').length") == 3
        assert page.evaluate("document.querySelector('#chart-arms .ytick text').textContent").startswith("8 ")
        labels = "[...document.querySelectorAll('#chart-arms .ytick text')].map(label => label.textContent)"
        lines = page.evaluate(labels)[-1]  # a long name is broken into lines, between words
        assert lines.replace(" ", "") == f"1 {HOSTILE[:21]}…".replace(" ", "")

        page.evaluate("document.getElementById('chart-over0').scrollIntoView({block: 'center', behavior: 'instant'})")
        spot = "document.querySelectorAll('#chart-over0 .scatterlayer path.point')[{}].getBoundingClientRect()"
        place = page.evaluate(f"(r => [r.left + r.width / 2, r.top + r.height / 2])({spot.format(7)})")
        page.send("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
        told = page.evaluate("document.querySelector('#chart-over0 .hoverlayer').textContent")
        assert "8 run4" in told
        assert "Test accuracy (%): 97.40 ± " in told
        assert page.errors == []


@pytest.mark.skipif(browser.find_chromium() is None, reason="no Chromium is installed")
def test_searches_are_drawn_in_the_colours_of_their_runs(searches, artifacts):
    with browser.Browser(browser.find_chromium()) as page:
        page.open(searches, 1440, 900)
        assert page.errors == []
        assert page.requests == [searches.as_uri()]
        charts = page.evaluate(CHARTS)
        assert charts == [f"chart-{what}-{k}" for what in ("winners", "progress", "fronts") for k in range(2)]
        series = page.evaluate(SERIES)
        drawn = {chart: pixels(page, chart, artifacts / f"searches-{chart}.png") for chart in charts}
        others = [series[k] for k in (2, 5)]
        for what, least in (("winners", 40), ("progress", 60), ("fronts", 60)):
            usual, otherwise = drawn[f"chart-{what}-0"], drawn[f"chart-{what}-1"]
            assert all(near(usual, colour) > least for colour in series if colour not in others)
            assert all(near(otherwise, colour) > least for colour in others)
            assert all(near(usual, colour) == 0 for colour in others)
        assert page.evaluate("document.querySelectorAll('img').length") == 0
        assert page.evaluate("document.querySelectorAll('script').length") == 3
        labels = "[...document.querySelectorAll('#chart-winners-0 .ytick text')].map(label => label.textContent)"
        assert page.evaluate(labels)[0].replace(" ", "") == f"1 {HOSTILE[:21]}…".replace(" ", "")


@pytest.mark.skipif(browser.find_chromium() is None, reason="no Chromium is installed")
@pytest.mark.parametrize("kind", ["searches", "rankings"])
def test_other_comparisons_overflow_nowhere(kind, request, artifacts):
    path = request.getfixturevalue(kind)
    with browser.Browser(browser.find_chromium()) as page:
        for width, dark in itertools.product((390, 1440), (False, True)):
            page.open(path, width, 900, dark=dark)
            page.screenshot(artifacts / f"{kind}-{width}-{'dark' if dark else 'light'}.png")
            page.evaluate("[...document.querySelectorAll('details')].forEach(part => (part.open = true))")
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.evaluate(WIDE) == []
            assert page.errors == []
            assert page.requests == [path.as_uri()]
