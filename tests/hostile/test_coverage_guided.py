"""The readers again, under inputs chosen by the code they reach; at full length, where atheris is installed."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_targets import targets

MINUTES = 30


@pytest.mark.parametrize("name", targets())
def test_coverage_guided(name: str, tmp_path: Path, soak) -> None:
    count = soak.count(0, 10_000)
    if not count:
        pytest.skip("coverage-guided fuzzing runs at full length only: --soak")
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("coverage-guided fuzzing needs atheris: pip install atheris")
    script = Path(__file__).with_name("coverage_guided.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    environment |= {"HOME": str(tmp_path), "EVOSPIKE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, str(script), name, str(count), str(tmp_path / "work")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60 * MINUTES,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert [path.name for path in tmp_path.iterdir()] == ["work"]
    executed = re.search(r"^Done (\d+)(?: runs?)? in", done.stdout + done.stderr, re.MULTILINE)
    assert executed is not None, (done.stdout + done.stderr)[-4000:]
    assert int(executed[1]) >= count
    soak.figure("hostile 3", f"{name}: inputs chosen by coverage", int(executed[1]))
