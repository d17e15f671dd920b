"""Drawings of architectures in a real browser: painted, folded into their box on a phone, and in words by keyboard."""

from __future__ import annotations

import importlib.util
import itertools
import os
from pathlib import Path

import pytest

from evospike.report.page import write_report

pytest.importorskip("plotly", reason="needs the extra 'report'")
pytest.importorskip("jinja2", reason="needs the extra 'report'")

_spec = importlib.util.spec_from_file_location("drawing_browser", Path(__file__).with_name("browser.py"))
browser_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(browser_module)

pytestmark = pytest.mark.skipif(browser_module.find_chromium() is None, reason="no Chromium is installed")

SECTION = (
    "(r => ({x: r.left + scrollX, y: r.top + scrollY, width: r.width, height: r.height}))"
    "(document.querySelector('#architecture').getBoundingClientRect())"
)
SPILLED = (
    "[...document.querySelectorAll('.architecture .box')].filter(box => [...box.querySelectorAll(':scope > text')]"
    ".some(text => { const [a, b] = [box.querySelector('rect'), text].map(e => e.getBoundingClientRect());"
    " return b.left < a.left || b.right > a.right; })).map(box => box.dataset.box)"
)
OVERLAPPING = (
    "[...document.querySelectorAll('.architecture .box')].filter(box => { const [name, note] ="
    " [...box.querySelectorAll(':scope > text')].map(e => e.getBoundingClientRect());"
    " return note && name.right > note.left && name.bottom > note.top && note.bottom > name.top; })"
    ".map(box => box.dataset.box)"
)


@pytest.fixture
def keep(tmp_path):
    """Where pictures are kept: the folder that EVOSPIKE_ARTIFACTS names, else the test's own."""
    folder = Path(os.environ.get("EVOSPIKE_ARTIFACTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize("maker", ["make_search", "make_run"])
def test_a_drawing_fits_its_box_and_its_lines_can_be_read_without_pointing(request, maker, keep):
    make = request.getfixturevalue(maker)
    run = make() if maker == "make_search" else make("train", overrides=["model.preset=resnet19", "model.channels=[]"])
    path = write_report(run.path, None)
    assert path.stat().st_size < 6_000_000
    with browser_module.Browser(browser_module.find_chromium()) as page:
        for width, dark in itertools.product((1440, 390), (False, True)):
            page.open(path, width, 900, dark=dark)
            name = f"architecture-{run.recipe.model.preset}-{width}-{'dark' if dark else 'light'}.png"
            page.screenshot(keep / name, page.evaluate(SECTION))
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.evaluate(SPILLED) == []
            assert page.evaluate(OVERLAPPING) == []
            hint = "document.querySelector('.architecture').parentElement.previousElementSibling"
            assert "drawing" in page.evaluate(f"{hint}.textContent")
            assert "table" not in page.evaluate(f"{hint}.textContent")
            assert page.errors == []
        summary = "document.querySelector('#architecture summary')"
        page.evaluate(f"{summary}.focus()")
        page.send("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", text="\r")
        page.send("Input.dispatchKeyEvent", type="keyUp", key="Enter", code="Enter")
        assert page.evaluate("document.querySelector('.connections').checkVisibility()")
        rows = page.evaluate("document.querySelectorAll('.connections tbody tr').length")
        assert rows == page.evaluate(f"parseInt({summary}.textContent.match(/[0-9,]+/)[0])")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
