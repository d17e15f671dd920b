from __future__ import annotations

import json
from pathlib import Path

import pytest

from evospike.data.catalogue import build_cache, describe, list_sources
from evospike.data.settings import DataSettings


def test_list_sources(tmp_path: Path, small_parquet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVOSPIKE_DATA", raising=False)
    listed = {item["name"]: item for item in list_sources()}
    assert list(listed) == [
        *("digits", "cifar10", "cifar100", "imagenet"),
        *("cifar10dvs", "dvsgesture", "nmnist", "digits-events", "cifar10-events"),
    ]
    assert listed["digits"]["available"] is True
    assert listed["cifar10"]["available"] is False
    assert "EVOSPIKE_DATA" in listed["cifar10"]["where"]
    assert (listed["cifar100"]["classes"], listed["cifar100"]["shape"]) == (100, [3, 32, 32])
    small_parquet.rename(tmp_path / "cifar10")
    found = {item["name"]: item for item in list_sources(str(tmp_path))}
    assert found["cifar10"]["available"] is True
    assert found["cifar10"]["where"] == str(tmp_path / "cifar10")
    assert "no folder" in found["imagenet"]["where"]


def test_describe_digits() -> None:
    facts = describe(DataSettings(validation=0.0))
    assert facts["splits"]["train"]["samples"] == 1438
    assert sum(facts["splits"]["test"]["per_class"]) == 359
    assert facts["cache"] is None
    assert facts["shape"] == [1, 8, 8]
    json.dumps(facts)


def test_build_cache(small_parquet: Path, cache: Path) -> None:
    facts = build_cache(DataSettings(source=f"parquet:{small_parquet}"))
    assert Path(facts["cache"]).parent == cache
    # 26 images of 3 x 6 x 6 bytes at the least
    assert facts["cache_bytes"] > 26 * 108
    assert describe(DataSettings(source=f"parquet:{small_parquet}"))["cache"] == facts["cache"]
