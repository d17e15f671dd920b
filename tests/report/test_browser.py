"""The page in a real browser: charts are drawn, nothing overflows, nothing is asked for, nothing of the run's runs.

Pictures of the page are kept in the folder that EVOSPIKE_ARTIFACTS names.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from evospike.report.page import write_report

pytest.importorskip("plotly", reason="needs the extra 'report'")
pytest.importorskip("jinja2", reason="needs the extra 'report'")
image = pytest.importorskip("PIL.Image", reason="needs the extra 'data'")

_spec = importlib.util.spec_from_file_location("report_browser", Path(__file__).with_name("browser.py"))
browser_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(browser_module)

TRACES = "document.querySelectorAll('#chart-{} .scatterlayer .trace').length"
WIDE = "[...document.querySelectorAll('.chart')].filter(c => c.scrollWidth > c.clientWidth).map(c => c.id)"
INK = "getComputedStyle(document.querySelector('#chart-candidates .xtick text')).fill"
RECTANGLE = "(r => [r.left, r.top, r.width, r.height])(document.querySelector({!r}).getBoundingClientRect())"
SCROLLED = "[scrollX, scrollY]"
VARIABLE = "getComputedStyle(document.documentElement).getPropertyValue('--{}').trim()"
LABEL = "[...document.querySelectorAll('#chart-{} .hoverlayer .hovertext')].map(text => text.textContent).join()"
SECTIONS = ("cost", "energy", "answers", "robustness")
SIZES = [(1440, 900, False), (1440, 900, True), (390, 844, False), (390, 844, True)]

pytestmark = pytest.mark.skipif(browser_module.find_chromium() is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser():
    """One browser for all tests; each opens its own page."""
    with browser_module.Browser(browser_module.find_chromium()) as page:
        yield page


@pytest.fixture
def page(browser):
    """The browser, remembering nothing."""
    yield browser
    browser.evaluate("localStorage.clear()")


@pytest.fixture
def keep(tmp_path):
    """Where pictures are kept, by the name of a file."""
    folder = Path(os.environ.get("EVOSPIKE_ARTIFACTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return lambda name: folder / f"evaluation-{name}.png"


def asked(page):
    """What was asked for, but for the fields of colours that a page draws into addresses of its own."""
    return [address for address in page.requests if not address.startswith("data:image/png;base64,")]


def rectangle(page, selector):
    """Left, top, width, height in the window."""
    return page.evaluate(RECTANGLE.format(selector))


def picture(page, selector, path):
    """What is seen of an element."""
    left, top, width, height = rectangle(page, selector)
    x, y = page.evaluate(SCROLLED)
    page.screenshot(path, {"x": left + x, "y": top + y, "width": width, "height": height})
    return image.open(io.BytesIO(path.read_bytes())).convert("RGB")


def colours_of(seen):
    """How many pixels have each colour."""
    return Counter({colour: count for count, colour in seen.getcolors(seen.width * seen.height)})


def named(page, name):
    """A colour of the theme."""
    value = page.evaluate(VARIABLE.format(name))
    return tuple(int(value[k : k + 2], 16) for k in (1, 3, 5))


def band(colour, surface):
    """A fifth of a colour over the surface."""
    return tuple(round(0.2 * own + 0.8 * below) for own, below in zip(colour, surface, strict=True))


def hover(page, name, x, y):
    """The label that appears over a place of a chart."""
    page.send("Input.dispatchMouseEvent", type="mouseMoved", x=x - 3, y=y - 3)
    page.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    deadline = time.monotonic() + 20
    while not (label := page.evaluate(LABEL.format(name))):
        assert time.monotonic() < deadline, "no label appears"
        time.sleep(0.05)
    return label


def show(page, selector):
    """Bring an element to the middle of the window; its rectangle."""
    element = f"document.querySelector({selector!r})"
    page.evaluate(f"{element}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    return rectangle(page, selector)


def press(page, key, code):
    for kind in ("rawKeyDown", "keyUp"):
        page.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)


def test_the_page_in_a_browser(page, make_run):
    path = write_report(make_run(hostile=True).path, None)
    page.open(path, 1280, 900)
    assert page.errors == []
    assert page.requests == [path.as_uri()]
    traces = {name: page.evaluate(TRACES.format(name)) for name in ("arms", "candidates", "loss", "validation")}
    assert traces == {"arms": 2, "candidates": 5, "loss": 3, "validation": 12}
    assert page.evaluate("document.querySelectorAll('#chart-candidates .scatterlayer path.point').length") == 19
    assert page.evaluate("document.querySelectorAll('#chart-rates .barlayer .point').length") == 6
    assert page.evaluate("document.documentElement.scrollWidth") == 1280

    # names are shown as text, in the charts too, and nothing of theirs became an element
    assert page.evaluate("document.querySelector('#chart-rates .xtick text').textContent").endswith("</script>")
    assert page.evaluate("document.querySelectorAll('script').length") == 3
    assert page.evaluate("document.querySelectorAll('img').length") == 0

    # the theme follows the button
    light = page.evaluate(INK)
    page.evaluate("document.getElementById('theme').click()")
    dark = page.evaluate(INK)
    assert light != dark
    assert page.evaluate("document.getElementById('theme').textContent") == "Light mode"

    # on a phone, with the system in dark mode
    page.evaluate("localStorage.clear()")
    page.open(path, 390, 844, dark=True)
    assert page.evaluate(INK) == dark
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate(WIDE) == []
    assert page.errors == []


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
@pytest.mark.parametrize(
    "evolved", [["evolution.start_step=0.05"], ["evolution.start_step=0.15"], ["evolution.generations=9"]]
)
def test_no_two_texts_of_an_evolution_meet(page, make_run, keep, width, height, evolved):
    page.open(write_report(make_run(overrides=evolved).path, None), width, height)
    show(page, "#chart-candidates")
    picture(page, "#chart-candidates", keep(f"candidates-{width}-{evolved[0]}"))
    assert page.evaluate("document.querySelectorAll('#chart-candidates .xtick').length") in range(3, 9)
    assert page.evaluate(browser_module.OVERLAPS) == []

    # the bar and what it says are below the title of the axis
    title = rectangle(page, "#chart-candidates .xtitle")
    bar = rectangle(page, "#chart-candidates .cbfills")
    assert title[1] + title[3] < bar[1]


def test_a_dot_of_a_search_tells_its_candidate(page, make_search):
    page.open(write_report(make_search(hostile=True).path, None), 1440, 900)
    dots = {
        "plane": (1, "energy"),
        "scores": (4, "silent: '<script>alert\\(1\\)</script>' hardly firesenergy"),
    }
    for chart, (trace, what) in dots.items():
        left, top, width, height = show(page, f"#chart-{chart} .scatterlayer .trace:nth-child({trace}) .point")
        label = hover(page, chart, left + width / 2, top + height / 2)
        assert re.match(rf"generation 1, candidate \d{what}", label)
        assert re.search(
            r"energy 2,000,\d{3}firing rate 0\.25operations \d\d,\d{3}parameters \d+,\d{3}score \d,\d+", label
        )
    assert page.errors == []


def test_an_unfinished_page_with_spreads_per_stage_fits_a_phone(page, make_run):
    names = ("log10 spread of encoding.a", "log10 spread of encoding.b", "log10 spread of genes")
    path = write_report(make_run(names=names, finals=2).path, None)
    page.open(path, 390, 844)
    assert page.errors == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate("document.querySelectorAll('#chart-candidates .scatterlayer path.point').length") == 57


def test_the_page_of_a_search_in_a_browser(page, make_search):
    path = write_report(make_search(hostile=True).path, None)
    page.open(path, 1280, 900)
    assert page.errors == []
    assert page.requests == [path.as_uri()]
    assert page.evaluate(TRACES.format("scores")) == 5
    assert page.evaluate("document.querySelectorAll('#chart-plane .scatterlayer path.point').length") > 15
    line = "getComputedStyle(document.querySelector('.architecture .line.plus')).stroke"
    light = page.evaluate(line)
    assert light != "none"
    assert page.evaluate("document.querySelectorAll('script').length") == 3
    page.evaluate("document.getElementById('theme').click()")
    assert page.evaluate(line) not in ("none", light)
    page.open(path, 390, 844)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    drawing = "document.querySelector('.architecture').parentElement"
    assert page.evaluate(f"{drawing}.scrollWidth > {drawing}.clientWidth")
    assert page.evaluate(WIDE) == []
    assert page.errors == []


def test_the_menu_of_a_ranking_shows_another_score(page, make_ranking):
    path = write_report(make_ranking().path, None)
    page.open(path, 390, 844)
    assert page.errors == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate("document.querySelectorAll('#chart-taus .barlayer .point').length") == 4
    title = "document.querySelector('#chart-scatter .xtitle').textContent"
    ticks = "[...document.querySelectorAll('#chart-scatter .xtick')].map(tick => tick.textContent).join()"
    assert page.evaluate(title) == "hamming"
    before = page.evaluate(ticks)
    page.evaluate(
        "(menu => { menu.selectedIndex = 3; menu.dispatchEvent(new Event('change')); })"
        "(document.querySelector('select'))"
    )
    assert page.evaluate(title) == "random"
    assert page.evaluate(ticks) != before
    assert page.evaluate("document.querySelectorAll('#chart-scatter path.point').length") == 5
    assert page.errors == []


def test_the_page_of_sparse_networks_in_a_browser(page, make_sparse):
    path = write_report(make_sparse(hostile=True, masked=12).path, None)
    stroke = "getComputedStyle(document.querySelector('.synapses path')).stroke"
    side = "document.querySelector('.synapses').getBoundingClientRect().width"
    seen = "[...document.querySelectorAll('.synapses')].filter(p => p.checkVisibility()).length"
    page.open(path, 1440, 900)
    assert page.errors == []
    assert page.requests == [path.as_uri()]
    assert page.evaluate(TRACES.format("rewiring")) == 2
    assert page.evaluate("document.querySelectorAll('#chart-density .barlayer .point').length") == 39
    assert page.evaluate("document.querySelectorAll('script').length") == 3
    assert page.evaluate(seen) == 10
    assert page.evaluate("[...document.querySelectorAll('.synapses g')].every(g => g.getBBox().width === 3)")
    light = page.evaluate(stroke)
    page.evaluate("document.getElementById('theme').click()")
    assert page.evaluate(stroke) not in ("none", light)

    # the layers that are left over can be unfolded
    page.evaluate("[...document.querySelectorAll('details')].forEach(part => (part.open = true))")
    assert page.evaluate(seen) == 12

    page.evaluate("localStorage.clear()")
    page.open(path, 390, 844)
    assert page.evaluate(stroke) == light
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert 120 < page.evaluate(side) < 200
    assert page.evaluate(WIDE) == []
    assert page.errors == []


def test_every_chart_of_an_evaluation_is_drawn_in_its_colours(page, make_evaluated, keep):
    arms = ("genetic", "dense", "random")
    path = write_report(make_evaluated(arms=arms, robustness="full").path, None)
    page.open(path, 1440, 900)
    assert page.errors == []
    assert asked(page) == [path.as_uri()]
    surface, series = named(page, "surface"), [named(page, f"series{k}") for k in range(6)]
    names = page.evaluate("[...document.querySelectorAll('.chart')].map(chart => chart.id)")
    assert len(names) == 16
    found = {name: colours_of(picture(page, f"#{name}", keep(name))) for name in names}
    for name, colours in found.items():
        assert len(colours) >= 8, name
        assert sum(colours.values()) - colours[surface] > 0.01 * sum(colours.values()), name

    # bars: every network, every part of the energy; lines: every network, and bands that are paler than they are
    assert all(found["chart-cost"][colour] > 1000 for colour in series[:3])
    assert all(found["chart-energy"][colour] > 300 for colour in series)
    assert all(found["chart-steps"][colour] > 40 for colour in series[:2])
    for place in range(3):
        assert all(found[f"chart-robustness-{place}"][colour] > 40 for colour in series[:3])
    assert max(found["chart-robustness-0"][band(colour, surface)] for colour in series[:3]) > 100

    # fields: the strongest cell has the end of the scale; where nothing was confused is nothing, elsewhere a count
    assert found["chart-spikes-2"][named(page, "rank0")] > 500
    assert found["chart-confusion-0"][surface] > 5000
    counts = "[...document.querySelectorAll('#chart-confusion-0 .heatmap-label text')].map(text => text.textContent)"
    told = json.loads((path.parent / "evaluation.json").read_text())["arms"][0]["confusion"]
    assert sorted(page.evaluate(counts)) == sorted(str(count) for row in told for count in row if count)


def test_labels_appear_over_the_charts_of_an_evaluation(page, make_evaluated):
    page.open(write_report(make_evaluated(robustness="full").path, None), 1440, 900)
    left, top, width, height = show(page, "#chart-cost .barlayer .trace:nth-child(2) .point path")
    label = hover(page, "cost", left + width / 2, top + height / 2)
    assert label.startswith("genetic, conv1.conv4,322 multiply-accumulatesinput: real, rate 0.1density 50.0 %, 1 of")
    left, top, width, height = show(page, "#chart-energy .barlayer .trace:nth-child(1) .point path")
    assert (
        hover(page, "energy", left + 5, top + height / 2)
        == "45nm, 110.001 nJspikes: 58.889 nJ by 45nm23.6 % of what its dense twin takes"
    )
    left, top, width, height = show(page, "#chart-confusion-0 .heatmaplayer image")
    label = hover(page, "confusion-0", left + 0.45 * width, top + 0.05 * height)
    assert label == "is 0, answered 41, 8.33 % of its class"
    left, top, width, height = show(page, "#chart-spikes-0 .heatmaplayer image")
    label = hover(page, "spikes-0", left + 0.6 * width, top + height / 2)
    assert label == "conv2.neuron, step 3204.8 spikes per sample0.2 per unit"
    left, top, width, height = show(page, "#chart-robustness-2 .scatterlayer .point:nth-child(3)")
    label = hover(page, "robustness-2", left + width / 2, top + height / 2)
    assert label == "geneticweight bits 4 (bits)61.00 % ± 0.00"
    assert page.errors == []


def test_the_theme_repaints_the_charts_of_an_evaluation(page, make_evaluated, keep):
    page.open(write_report(make_evaluated().path, None), 1440, 900)
    light = picture(page, "#chart-energy", keep("energy-light"))
    page.evaluate("document.getElementById('theme').click()")
    dark = picture(page, "#chart-energy", keep("energy-dark"))
    before, after = colours_of(light), colours_of(dark)
    assert before.most_common(1)[0][0] == (255, 255, 255)
    assert after.most_common(1)[0][0] == named(page, "surface") != (255, 255, 255)
    assert after[named(page, "series0")] > 300
    assert before[named(page, "series0")] == 0
    assert page.errors == []


@pytest.mark.parametrize(("width", "height", "dark"), SIZES)
def test_an_evaluation_fits_the_window(page, make_evaluated, keep, width, height, dark):
    path = write_report(make_evaluated(arms=("genetic", "dense"), robustness="full", hostile=True).path, None)
    page.open(path, width, height, dark=dark)
    page.evaluate("[...document.querySelectorAll('details')].forEach(part => (part.open = true))")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(WIDE) == []
    outside = (
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, .chart, pre') && "
        "e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName)"
    )
    assert page.evaluate(outside) == []

    # what is cut at the side says so, and nothing else does
    wrong = (
        "[...document.querySelectorAll('.scroll')].filter(e => "
        "e.previousElementSibling.hidden !== (e.scrollWidth <= e.clientWidth + 1)).length"
    )
    deadline = time.monotonic() + 20
    while page.evaluate(wrong):
        assert time.monotonic() < deadline, "a table is cut without a word, or not cut with one"
        time.sleep(0.05)
    for section in SECTIONS:
        seen = picture(page, f"#{section}", keep(f"{section}-{width}-{'dark' if dark else 'light'}"))
        assert len(colours_of(seen)) > 50, section

    # names that hold markup are text
    assert page.evaluate("document.querySelectorAll('script').length") == 3
    assert page.evaluate("document.querySelectorAll('main img').length") == 0
    assert "conv1.conv<script>alert(1)</script>" in page.evaluate(
        "document.querySelector('#cost table').closest('section').textContent"
    )
    assert page.errors == []
    assert asked(page) == [path.as_uri()]


def test_an_evaluation_can_be_read_with_the_keyboard(page, make_evaluated):
    page.open(write_report(make_evaluated(arms=("genetic", "dense"), robustness="full").path, None), 390, 844)
    seen, outlines = [], []
    focused = "(e => e.id || e.getAttribute('aria-label') || e.textContent.trim())(document.activeElement)"
    outline = "(s => s.outlineStyle + ' ' + s.outlineWidth)(getComputedStyle(document.activeElement))"
    while not seen or page.evaluate("document.activeElement !== document.body"):
        assert len(seen) < 200
        press(page, "Tab", 9)
        seen.append(page.evaluate(focused))
        outlines.append(page.evaluate(outline))
    visible = "[...document.querySelectorAll('.scroll')].filter(e => e.checkVisibility())"
    regions = page.evaluate(f"{visible}.map(e => e.getAttribute('aria-label'))")
    assert seen[:2] == ["Skip to the content", "theme"]
    assert len(regions) > 8
    assert [name for name in seen if name in regions] == regions
    assert set(outlines[:-1]) == {"solid 3px"}

    # a table that is wider than the window is moved by the arrow keys
    page.evaluate("document.querySelector('#cost .scroll').focus()")
    assert page.evaluate("document.activeElement.scrollWidth > document.activeElement.clientWidth")
    press(page, "ArrowRight", 39)
    deadline = time.monotonic() + 20
    while page.evaluate("document.activeElement.scrollLeft") == 0:
        assert time.monotonic() < deadline, "the table does not move"
        time.sleep(0.05)


def test_an_evaluation_can_be_read_aloud(page, make_evaluated):
    page.open(write_report(make_evaluated(arms=("genetic", "dense"), robustness="full").path, None), 1440, 900)
    page.send("Accessibility.enable")
    nodes = [node for node in page.send("Accessibility.getFullAXTree")["nodes"] if not node.get("ignored")]
    page.send("Accessibility.disable")
    told = {}
    for node in nodes:
        told.setdefault(node["role"]["value"], []).append(node)
    drawn = page.evaluate("document.querySelectorAll('.chart').length")
    pictures = [node["name"]["value"] for node in told["image"]]
    assert len(pictures) == drawn + 2 == 16  # with the drawing of the architecture and its legend
    assert all(name.endswith(".") and len(name) > 20 for name in pictures)
    levels = [
        next(part["value"]["value"] for part in node["properties"] if part["name"] == "level")
        for node in told["heading"]
    ]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(node["name"]["value"] for node in told["table"])
    assert len(told["table"]) > 8
    assert all(node["name"]["value"] for node in told["region"])
