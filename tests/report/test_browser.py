"""The page in a real browser: charts are drawn, nothing overflows, nothing is asked for, nothing of the run's runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from evospike.report.page import write_report

pytest.importorskip("plotly", reason="needs the extra 'report'")
pytest.importorskip("jinja2", reason="needs the extra 'report'")

_spec = importlib.util.spec_from_file_location("report_browser", Path(__file__).with_name("browser.py"))
browser_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(browser_module)

TRACES = "document.querySelectorAll('#chart-{} .scatterlayer .trace').length"
WIDE = "[...document.querySelectorAll('.chart')].filter(c => c.scrollWidth > c.clientWidth).map(c => c.id)"
INK = "getComputedStyle(document.querySelector('#chart-candidates .xtick text')).fill"


@pytest.mark.skipif(browser_module.find_chromium() is None, reason="no Chromium is installed")
def test_the_page_in_a_browser(make_run):
    path = write_report(make_run(hostile=True).path, None)
    with browser_module.Browser(browser_module.find_chromium()) as page:
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
        assert page.evaluate("document.getElementById('theme').getAttribute('aria-pressed')") == "true"

        # on a phone, with the system in dark mode
        page.evaluate("localStorage.clear()")
        page.open(path, 390, 844, dark=True)
        assert page.evaluate(INK) == dark
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.evaluate(WIDE) == []
        assert page.errors == []


@pytest.mark.skipif(browser_module.find_chromium() is None, reason="no Chromium is installed")
def test_an_unfinished_page_with_spreads_per_stage_fits_a_phone(make_run):
    names = ("log10 spread of encoding.a", "log10 spread of encoding.b", "log10 spread of genes")
    path = write_report(make_run(names=names, finals=2).path, None)
    with browser_module.Browser(browser_module.find_chromium()) as page:
        page.open(path, 390, 844)
        assert page.errors == []
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.evaluate("document.querySelectorAll('#chart-candidates .scatterlayer path.point').length") == 57


@pytest.mark.skipif(browser_module.find_chromium() is None, reason="no Chromium is installed")
def test_the_page_of_a_search_in_a_browser(make_search):
    path = write_report(make_search(hostile=True).path, None)
    with browser_module.Browser(browser_module.find_chromium()) as page:
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


@pytest.mark.skipif(browser_module.find_chromium() is None, reason="no Chromium is installed")
def test_the_menu_of_a_ranking_shows_another_score(make_ranking):
    path = write_report(make_ranking().path, None)
    with browser_module.Browser(browser_module.find_chromium()) as page:
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


@pytest.mark.skipif(browser_module.find_chromium() is None, reason="no Chromium is installed")
def test_the_page_of_sparse_networks_in_a_browser(make_sparse):
    path = write_report(make_sparse(hostile=True, masked=12).path, None)
    stroke = "getComputedStyle(document.querySelector('.synapses path')).stroke"
    side = "document.querySelector('.synapses').getBoundingClientRect().width"
    seen = "[...document.querySelectorAll('.synapses')].filter(p => p.checkVisibility()).length"
    with browser_module.Browser(browser_module.find_chromium()) as page:
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
