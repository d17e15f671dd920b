"""A headless Chromium over its debugging pipe, with nothing but the standard library."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def find_chromium() -> str | None:
    """The first browser of the family that is installed."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


OVERLAPS = """
(() => {
  const corners = (text) => {
    const { x, y, width, height } = text.getBBox();
    const matrix = text.getScreenCTM();
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]].map(([a, b]) => {
      const point = new DOMPoint(a, b).matrixTransform(matrix);
      return [point.x, point.y];
    });
  };
  // how deep one of two turned boxes reaches into the other, along the sides of the first
  const depth = (one, other) => Math.min(...[0, 1].map((side) => {
    const [from, to] = [one[side], one[side + 1]];
    const length = Math.hypot(to[0] - from[0], to[1] - from[1]);
    const along = ([x, y]) => (x * (to[0] - from[0]) + y * (to[1] - from[1])) / length;
    const [a, b] = [one.map(along), other.map(along)];
    return Math.min(Math.max(...a), Math.max(...b)) - Math.max(Math.min(...a), Math.min(...b));
  }));
  return [...document.querySelectorAll(".chart")].flatMap((chart) => {
    const seen = [...chart.querySelectorAll("text")].filter((text) => text.checkVisibility() && text.getBBox().width);
    const boxes = seen.map(corners);
    const edge = chart.getBoundingClientRect();
    const outside = seen.filter((_, k) => boxes[k].some(([x, y]) =>
      x < edge.left - 1 || x > edge.right + 1 || y < edge.top - 1 || y > edge.bottom + 1));
    const pairs = seen.flatMap((text, k) => seen.slice(k + 1)
      .filter((_, j) => Math.min(depth(boxes[k], boxes[k + 1 + j]), depth(boxes[k + 1 + j], boxes[k])) > 1)
      .map((other) => `${chart.id}: ${text.textContent} | ${other.textContent}`));
    return [...outside.map((text) => `${chart.id}: ${text.textContent} is cut off`), ...pairs];
  });
})()
"""
"""Texts of charts that lie over one another or reach out of their chart, turned ones too."""


class Browser:
    """One page. requests: the address of everything it asked for; errors: what its scripts or policy complained of."""

    def __init__(self, binary: str, patience_s: float = 60.0) -> None:
        self._profile = tempfile.mkdtemp(prefix="evospike-chromium-")
        self._patience_s = patience_s
        self._last, self._buffer = 0, b""
        self.requests: list[str] = []
        self.errors: list[str] = []
        their_in, self._out = os.pipe()
        self._in, their_out = os.pipe()
        # the browser reads its commands from descriptor 3 and answers on 4
        command = f'exec "$0" "$@" 3<&{their_in} 4>&{their_out}'
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", command, binary, *FLAGS, f"--user-data-dir={self._profile}", "about:blank"],
            pass_fds=(their_in, their_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(their_in)
        os.close(their_out)
        targets = self._send("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        attached = self._send("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, page: Path, width: int, height: int = 900, *, dark: bool = False, scale: float = 1.0) -> None:
        """Load a page in a window of that size and wait until its charts are drawn."""
        self.requests, self.errors = [], []
        phone = width < 600
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Page.navigate", url=page.absolute().as_uri())
        deadline = time.monotonic() + self._patience_s
        charts = "[...document.querySelectorAll('.chart')].every(c => c.querySelector('.main-svg'))"
        drawn = f"document.readyState === 'complete' && {charts}"
        while not (self.evaluate("location.protocol") == "file:" and self.evaluate(drawn)):
            assert time.monotonic() < deadline, f"the page did not finish drawing: {self.errors}"
            time.sleep(0.1)

    def evaluate(self, expression: str) -> Any:
        """The JSON value of an expression in the page."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, path: Path, clip: dict[str, float] | None = None) -> None:
        """A PNG of the whole page or of a part of it, in CSS pixels."""
        area = {} if clip is None else {"clip": {**clip, "scale": 1}}
        answer = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True, **area)
        path.write_bytes(base64.b64decode(answer["data"]))

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the debugging protocol to the page, and its answer."""
        return self._send(method, self._session, **parameters)

    def _send(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._last:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + self._patience_s
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(deadline - time.monotonic(), 0.0))
            data = os.read(self._in, 1 << 20) if ready else b""
            assert data, "the browser does not answer"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        name, about = event.get("method"), event.get("params", {})
        if name == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif name == "Runtime.exceptionThrown":
            self.errors.append(str(about["exceptionDetails"]))
        elif name == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.errors.append(about["entry"]["text"])
