"""Functions that worker processes run in the tests; imported by name from a folder on the import path."""

import os
import time
from pathlib import Path
from typing import Any

Values = dict[str, Any]


def square(payload: Values, context: Values) -> Values:
    time.sleep(payload.get("wait", 0.0))
    return {"value": payload["x"] ** 2 + context["offset"], "threads": context["threads"], "pid": os.getpid()}


def environment(payload: Values, context: Values) -> Values:
    print("noise on standard output")
    return {"omp": os.environ["OMP_NUM_THREADS"], "mkl": os.environ["MKL_NUM_THREADS"]}


def picky(payload: Values, context: Values) -> Any:
    if payload["x"] == 1:
        raise ValueError("x is\n  one")
    if payload["x"] == 2:
        raise SystemExit(3)
    return (lambda: None) if payload["x"] == 3 else "fine"


def die_once(payload: Values, context: Values) -> int:
    """Payload 1 kills its worker at the first attempt; others take a while."""
    marker = Path(context["folder"]) / f"died-{payload['x']}"
    if payload["x"] == 1 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), 9)
    time.sleep(payload.get("wait", 0.0))
    return int(payload["x"])


def die_always(payload: Values, context: Values) -> int:
    if payload["x"] == 1:
        os.kill(os.getpid(), 9)
    return int(payload["x"])


def exhaust_among_others(payload: Values, context: Values) -> Values:
    """Memory does not suffice for payload 1 at its first attempt, nor ever beside another payload."""
    folder, x = Path(context["folder"]), payload["x"]
    running, marker = folder / f"running-{x}", folder / f"exhausted-{x}"
    running.touch()
    try:
        for _ in range(20 if x == 1 else 5):
            time.sleep(0.02)
            if x == 1 and (not marker.exists() or len(list(folder.glob("running-*"))) > 1):
                marker.write_text(str(os.getpid()))
                exhaust_always(payload, context)
        return {"x": x, "pid": os.getpid()}
    finally:
        running.unlink()


def exhaust_always(payload: Values, context: Values) -> bytearray:
    return bytearray(1 << 62)


def die_leaving_a_child(payload: Values, context: Values) -> int:
    """The forked child keeps the worker's pipe open after the worker is gone."""
    if os.fork() == 0:
        time.sleep(2)
        os._exit(0)
    os.kill(os.getpid(), 9)
    return 0


def log_and_die_once(payload: Values, context: Values) -> int:
    """Log start and end of every call; payloads 0 and 1 kill their worker at the first attempt."""
    folder, x = Path(context["folder"]), payload["x"]
    marker = folder / f"died-{x}"
    if x < 2 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), 9)
    with open(folder / "log", "a") as file:
        file.write(f"start {x}\n")
    time.sleep(0.1)
    with open(folder / "log", "a") as file:
        file.write(f"end {x}\n")
    return int(x)


def sleep(payload: Values, context: Values) -> None:
    (Path(context["folder"]) / f"pid-{os.getpid()}").touch()
    time.sleep(60)


def bowl_score(payload: Values, context: Values) -> Values:
    """A score for a request, with its minimum at (-1.5, -0.5)."""
    x, y = payload["genotype"]["values"]
    loss = (x + 1.5) ** 2 + (y + 0.5) ** 2
    terms = {"loss": loss, "validation_loss": loss, "temporal": -x, "entropy": -y}
    return {"status": "ok", "terms": terms, "seconds": time.perf_counter()}


def bowl_score_in_its_time(payload: Values, context: Values) -> Values:
    """The same; every third candidate takes long."""
    time.sleep(0.3 if payload["index"] % 3 == 0 else 0.02)
    return bowl_score(payload, context)


def facts(context: Values) -> dict[str, str]:
    return {"colour": context["colour"], "pid": str(os.getpid())}


def facts_when_told(context: Values) -> dict[str, str]:
    """Lets a worker be ready once the file `go` is there."""
    (Path(context["folder"]) / f"pid-{os.getpid()}").touch()
    hold({"x": 0}, context)
    return {}


def in_place(payload: Values, context: Values) -> Values:
    numbers = context["numbers"]
    return {"sum": int(numbers.sum()), "writeable": numbers.flags.writeable}


def hold(payload: Values, context: Values) -> int:
    """Returns once the file `go` is there."""
    while not (Path(context["folder"]) / "go").exists():
        time.sleep(0.02)
    return int(payload["x"])


def any_of(payload: Values, context: Values) -> Any:
    """The function that the payload names, so that one worker can serve many tests."""
    return globals()[payload["function"]](payload, context)
