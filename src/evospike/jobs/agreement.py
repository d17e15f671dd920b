"""What a run's candidates are judged on must not change between its sittings."""

from __future__ import annotations

from typing import Any

from evospike.core.errors import RunError
from evospike.evolution.store import Store


def agree(store: Store, name: str, value: Any) -> None:
    """Record a fact about what candidates are judged on, or refuse to go on when it has changed."""
    known = store.values().get(name)
    if known is None:
        store.record_value(name, value)
    elif known != value:
        raise RunError(f"what the run began with has changed: {name}; restore them or start a new run")
