from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from evospike.core.errors import DataError, MissingExtra
from evospike.data.settings import DataSettings
from evospike.data.task import load_task


class _Part:
    """The few methods of a `datasets.Dataset` that evospike calls."""

    def __init__(self, images: list[bytes], labels: list[int]) -> None:
        self.features = {"image": None, "label": SimpleNamespace(names=["no", "yes"])}
        self._columns = {"image": [{"bytes": data, "path": None} for data in images], "label": labels}
        self._fingerprint = f"print{len(labels)}"

    def __len__(self) -> int:
        return len(self._columns["label"])

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self._columns[key]
        return {name: values[key] for name, values in self._columns.items()}

    def cast_column(self, name: str, feature: Any) -> _Part:
        assert feature == "undecoded"
        return self


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, pictures: Any, png: Any) -> list[Any]:
    calls: list[Any] = []
    images = [png(p) for p in pictures(8)]

    def load_dataset(*arguments: str, **options: Any) -> dict[str, _Part]:
        calls.append((arguments, options))
        if arguments[0] == "owner/absent":
            raise RuntimeError("404 not found\nlong trace")
        return {"train": _Part(images, [0, 1] * 4), "test": _Part(images[:2], [0, 1])}

    module: Any = ModuleType("datasets")
    module.load_dataset = load_dataset
    module.Image = lambda decode: "decoded" if decode else "undecoded"
    monkeypatch.setitem(sys.modules, "datasets", module)
    return calls


def test_loads_through_datasets_without_running_code(hub: list[Any], pictures: Any) -> None:
    task = load_task(DataSettings(source="hub:owner/pets/large", validation=0.0), 0)
    assert hub == [(("owner/pets", "large"), {})]
    assert task.classes == ("no", "yes")
    assert torch.equal(task.train.images, torch.from_numpy(pictures(8)).permute(0, 3, 1, 2))
    assert task.open_test().labels.tolist() == [0, 1]


def test_failure_is_one_line(hub: list[Any]) -> None:
    with pytest.raises(DataError, match=r"^cannot load 'hub:owner/absent' \(404 not found\); check the name"):
        load_task(DataSettings(source="hub:owner/absent"), 0)


def test_wrong_column(hub: list[Any]) -> None:
    with pytest.raises(DataError, match=r"has columns image, label; expected .* a label column \(kind\)"):
        load_task(DataSettings(source="hub:owner/pets", label_column="kind"), 0)


def test_missing_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"loading 'hub:a/b' needs 'datasets'.*evospike\[hub\]"):
        load_task(DataSettings(source="hub:a/b"), 0)
