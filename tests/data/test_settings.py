from __future__ import annotations

import subprocess
import sys

import pytest

from evospike.core.errors import SettingsError
from evospike.core.settings import plain, read_settings
from evospike.data.settings import AugmentSettings, DataSettings, SimulatorSettings


def test_defaults_and_round_trip() -> None:
    settings = DataSettings(source="hub:owner/name", augment=AugmentSettings(kind="strong", cutmix=1.0))
    assert read_settings(DataSettings, plain(settings)) == settings
    assert DataSettings().source == "digits"
    assert AugmentSettings() == AugmentSettings("basic", 4, 0.5, 0, 0.0, 0.0, 0.25, 2, 9.0, False)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "cifar"}, "unknown data source 'cifar'; did you mean 'cifar10'"),
        ({"source": "zip:x"}, "unknown data source 'zip'"),
        ({"source": "hub"}, "'hub' needs a place; write hub:WHERE"),
        ({"source": "parquet:"}, "names nothing; write parquet:WHERE"),
        ({"validation": 1.0}, "data.validation is a fraction below 1, given 1.0"),
        ({"image_size": -1}, "data.image_size is 0 or 4 to 4096, given -1"),
        ({"train_limit": -5}, "data.train_limit cannot be negative, given -5"),
        ({"augment": {"flip": 1.5}}, "augment.flip is a probability, given 1.5"),
        ({"augment": {"mixup": -0.1}}, "augment.mixup cannot be negative, given -0.1"),
        ({"augment": {"randaugment_magnitude": 11}}, "augment.randaugment_magnitude is 0 to 10, given 11"),
        ({"augment": {"kind": "medium"}}, "'augment.kind' cannot be 'medium'"),
    ],
)
def test_refuses(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_settings(DataSettings, values)


def test_mixes_only_when_augmenting() -> None:
    assert AugmentSettings(mixup=0.2).mixes
    assert not AugmentSettings(kind="none", mixup=0.2).mixes
    assert not AugmentSettings().mixes


def test_settings_do_not_import_torch() -> None:
    code = "import sys, evospike.data.settings; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, env={"PYTHONPATH": ":".join(sys.path)}).returncode
        == 0
    )


@pytest.mark.parametrize(
    "wrong", [{"noise_hz": 1e300}, {"loop_ms": 1e16}, {"threshold": 1e-9}, {"loops": 10**9}, {"samples": 10**6}]
)
def test_a_simulation_without_end_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=f"simulator.{next(iter(wrong))} is "):
        SimulatorSettings(**wrong)
    with pytest.raises(SettingsError, match="does not fit in memory; lower one of them"):
        SimulatorSettings(sensor=1024, loops=1000, samples=100)
