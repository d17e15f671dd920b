from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evospike.core.errors import DataError
from evospike.data.catalogue import build_cache, describe, list_sources
from evospike.data.events.framing import to_frames
from evospike.data.known import KNOWN, known_facts
from evospike.data.settings import AugmentSettings, DataSettings, EventSettings, SimulatorSettings
from evospike.data.task import ImageSet, Task, load_task, measured_normalisation, proxy_subset

DVS128 = (128, 128)


def _task(source: str, folder: Path | str = "", seed: int = 0, validation: float = 0.0, **events: Any) -> Task:
    framing = EventSettings(**{"frames": 3, **events})
    return load_task(DataSettings(source=source, folder=str(folder), validation=validation, events=framing), seed)


def _contents(images: ImageSet) -> set[bytes]:
    return {image.numpy().tobytes() for image in images.take(torch.arange(len(images)))[0]}


def test_cifar10dvs(cifar10dvs: Path, formats: Any) -> None:
    task = _task("cifar10dvs", cifar10dvs)
    test = task.open_test()
    assert (task.shape, task.frames, task.simulated) == ((2, 128, 128), 3, False)
    assert task.split == "evospike 9/1 per class, seed 0"
    assert task.classes == formats.CIFAR10
    assert task.train.class_counts(10) == [9] * 10
    assert test.class_counts(10) == [1] * 10
    framing = EventSettings(frames=3)
    expected = [
        {to_frames(formats.events(30, DVS128, 100 * label + i), DVS128, framing).tobytes() for i in range(10)}
        for label in range(10)
    ]
    for images in (task.train, test):
        for label in range(10):
            mine = images.subset(torch.nonzero(images.labels == label)[:, 0])
            assert _contents(mine) < expected[label]
    assert not _contents(task.train) & _contents(test)


def test_our_split_is_the_same_under_every_seed(cifar10dvs: Path) -> None:
    tasks = [_task("cifar10dvs", cifar10dvs, seed, validation=0.2) for seed in (0, 5)]
    assert tasks[0].open_test().digest() == tasks[1].open_test().digest()
    assert tasks[0].train.digest() != tasks[1].train.digest()


def test_classes_of_unequal_size_are_split_by_share(cifar10dvs: Path) -> None:
    for i in range(5):
        (cifar10dvs / "cifar10dvs" / "dog" / f"cifar10_dog_{i}.aedat").unlink()
    task = _task("cifar10dvs", cifar10dvs)
    assert task.split == "evospike 90%/10% per class, seed 0"
    assert len(task.train) + len(task.open_test()) == 95


def test_our_split_of_the_full_set_is_900_to_100() -> None:
    from evospike.data.events.folders import divided

    parts, name = divided(np.repeat(np.arange(10), 1000))
    assert name == KNOWN["cifar10dvs"].split == "evospike 900/100 per class, seed 0"
    assert [len(parts["train"]), len(parts["test"])] == [9000, 1000]
    assert np.array_equal(np.sort(np.concatenate([*parts.values()])), np.arange(10_000))


def test_nmnist(nmnist_folder: Path, formats: Any) -> None:
    task = _task("nmnist", nmnist_folder, split="time")
    framing = EventSettings(frames=3, split="time")
    assert (task.shape, task.split) == ((2, 34, 34), "official train/test")
    assert task.train.labels.tolist() == [digit for digit in range(10) for _ in range(2)]
    for position, (digit, i) in enumerate((digit, i) for digit in range(10) for i in range(2)):
        expected = to_frames(formats.events(20, (34, 34), 10 * digit + i), (34, 34), framing)
        assert (task.train.images[position].numpy() == expected).all()
    assert task.open_test().labels.tolist() == list(range(10))


def test_gesture(gesture: Path, formats: Any) -> None:
    task = _task("dvsgesture", gesture)
    assert (len(task.classes), task.classes[7], task.split) == (11, "arm roll", KNOWN["dvsgesture"].split)
    assert task.train.labels.tolist() == task.open_test().labels.tolist() == [*range(11), 0]
    recording = formats.events(1200, (128, 128), seed=0, latest=12_000)
    for i in range(12):
        part = recording.of((recording.t >= 1000 * i) & (recording.t < 1000 * (i + 1)))
        expected = to_frames(part, (128, 128), EventSettings(frames=3))
        assert (task.train.images[i].numpy() == expected).all()


def test_frame_folders_with_and_without_a_split(frame_folder: Callable[..., Path]) -> None:
    given = frame_folder("given", ("train", "test"))
    task = _task(f"frames:{given}")
    assert (task.shape, task.split) == ((2, 6, 8), "train/test as in the folders")
    assert (len(task.train), len(task.open_test())) == (8, 8)
    with np.load(given / "train" / "b" / "2.npz") as archive:
        assert (task.train.images[6].numpy() == archive["frames"]).all()
    ours = _task(f"frames:{frame_folder('ours', ('',), count=10)}")
    assert ours.split == "evospike 9/1 per class, seed 0"
    assert (len(ours.train), len(ours.open_test())) == (18, 2)


def test_numbered_classes_are_in_the_order_of_numbers(frame_folder: Callable[..., Path]) -> None:
    names = tuple(str(i) for i in range(12))
    assert _task(f"frames:{frame_folder('many', ('train', 'test'), names, count=1)}").classes == names


def test_frames_by_duration_may_be_of_any_number(frame_folder: Callable[..., Path]) -> None:
    folder = frame_folder("given", ("train", "test"), T=4)
    longer = _task(f"frames:{folder}", frames=6, split="duration").train.images
    shorter = _task(f"frames:{folder}", frames=2, split="duration").train.images
    assert not longer[:, 4:].any()
    assert torch.equal(longer[:, :2], shorter)
    with pytest.raises(DataError, match=r"0.npz holds 4 frames, not 3; set data.events.frames=4"):
        _task(f"frames:{folder}")


def test_named_sets_may_be_given_as_frames(frame_folder: Callable[..., Path], formats: Any) -> None:
    home = frame_folder("cifar10dvs", ("",), formats.CIFAR10, count=10)
    task = _task("cifar10dvs", home.parent)
    assert (task.name, task.shape, len(task.train)) == ("cifar10dvs", (2, 6, 8), 90)
    shutil.rmtree(home / "cat")
    with pytest.raises(DataError, match="'cifar10dvs' has 10 classes, found 9"):
        _task("cifar10dvs", home.parent)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda home: shutil.rmtree(home / "frog"), r"no class folder frog in .*cifar10dvs; expected"),
        (lambda home: [f.unlink() for f in (home / "frog").iterdir()], r"class folder .*frog has no \*.aedat files"),
        (lambda home: (home / "dog" / "cifar10_dog_3.aedat").write_bytes(b""), r"cifar10_dog_3.aedat starts with ''"),
        (lambda home: (home / "dog" / "new.aedat").mkdir(), r"cannot read .*new.aedat \(Is a directory\)"),
    ],
)
def test_bad_cifar10dvs(cifar10dvs: Path, spoil: Callable[[Path], Any], message: str) -> None:
    spoil(cifar10dvs / "cifar10dvs")
    with pytest.raises(DataError, match=message):
        _task("cifar10dvs", cifar10dvs)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda home: (home / "trials_to_train.txt").unlink(), r"no trials_to_train.txt in .*; unpack DvsGesture"),
        (lambda home: (home / "trials_to_test.txt").unlink(), r"no trials_to_test.txt in"),
        (lambda home: (home / "trials_to_train.txt").write_text("\n"), r"trials_to_train.txt lists no recordings"),
        (lambda home: (home / "trials_to_test.txt").write_text("../x.aedat"), r"lists '../x.aedat', expected names"),
        (lambda home: (home / "user01_lab_labels.csv").unlink(), r"lists user01_lab.aedat, but there is no .*csv"),
        (lambda home: (home / "user01_lab.aedat").unlink(), r"lists user01_lab.aedat, but there is no .*aedat;"),
        (
            lambda home: (home / "user24_led_labels.csv").write_text("c,s,e\n1,0,5\n3,7,x\n"),
            r"user24_led_labels.csv, line 3 is '3,7,x'",
        ),
        (
            lambda home: (home / "user01_lab.aedat").write_bytes((home / "user01_lab.aedat").read_bytes()[:-3]),
            r"user01_lab.aedat is cut short",
        ),
    ],
)
def test_bad_gesture(gesture: Path, spoil: Callable[[Path], Any], message: str) -> None:
    spoil(gesture / "dvsgesture" / "DvsGesture")
    with pytest.raises(DataError, match=message):
        _task("dvsgesture", gesture)


def test_bad_nmnist(nmnist_folder: Path) -> None:
    shutil.rmtree(nmnist_folder / "nmnist" / "Test")
    with pytest.raises(DataError, match=r"no folder Test in .*nmnist; unpack"):
        _task("nmnist", nmnist_folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda home: shutil.rmtree(home / "train"), "no train folder in"),
        (lambda home: shutil.rmtree(home / "test" / "b"), r"no class folder b in .*test"),
        (
            lambda home: [shutil.copytree(home / "test" / "b", home / "test" / name) for name in ("c", "d")],
            r"given/test has class folders that train has not: c, d; name both alike or move them out",
        ),
        (lambda home: [f.unlink() for f in (home / "train" / "a").iterdir()], r"class folder .*a has no \*.npz files"),
        (lambda home: (home / "test" / "b" / "1.npz").write_bytes(b"PK"), r"cannot read the frames in .*1.npz"),
        (lambda home: np.savez(home / "test" / "b" / "1.npz", x=1), r"cannot read the frames in .*no item named"),
        (
            lambda home: np.savez(home / "test" / "b" / "1.npz", frames=np.zeros((3, 2, 9, 9))),
            r"1.npz is of 9x9 pixels, earlier files of 8x6",
        ),
    ],
)
def test_bad_frame_folders(frame_folder: Callable[..., Path], spoil: Callable[[Path], Any], message: str) -> None:
    home = frame_folder("given", ("train", "test"))
    spoil(home)
    with pytest.raises(DataError, match=message):
        _task(f"frames:{home}")


def test_folders_that_are_missing_or_empty(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder .*cifar10dvs; check data.source and data.folder"):
        _task("cifar10dvs", tmp_path)
    (tmp_path / "cifar10dvs").mkdir()
    with pytest.raises(DataError, match=r"folder .*cifar10dvs is empty"):
        _task("cifar10dvs", tmp_path)
    with pytest.raises(DataError, match=r"no folder .*nowhere"):
        _task(f"frames:{tmp_path}/nowhere")
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.npz").touch()
    with pytest.raises(DataError, match=r"no class folders in .*flat"):
        _task(f"frames:{tmp_path}/flat")


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch, formats: Any) -> list[list[int]]:
    """A simulator that films ten pixels per image; gives the rows that it was asked for."""
    from evospike.data.events import simulate as module

    asked: list[list[int]] = []

    def simulate(images: torch.Tensor, rows: torch.Tensor, settings: SimulatorSettings, seed: int) -> list[Any]:
        assert seed == 0
        assert images.dtype == torch.uint8
        assert len(images) == len(rows)
        asked.append(rows.tolist())
        sensor = (settings.sensor, settings.sensor)
        seeds = images.flatten(1).sum(1) + 7 * rows
        return [formats.events(10, sensor, seed=seed) for seed in seeds.tolist()]

    monkeypatch.setattr(module, "simulate", simulate)
    return asked


def test_digits_events_have_the_labels_and_splits_of_the_digits(camera: list[list[int]], formats: Any) -> None:
    still = load_task(DataSettings(validation=0.1), 3)
    settings = DataSettings(source="digits-events", simulator=SimulatorSettings(sensor=12))
    task, test = load_task(settings, 3), load_task(settings, 3).open_test()
    assert (task.shape, task.frames, task.simulated, task.split) == ((2, 12, 12), 10, True, "stratified 80/20, fixed")
    assert "simulated" in task.notes[-1]
    assert torch.equal(task.train.labels, still.train.labels)
    assert torch.equal(task.train.rows, still.train.rows)
    assert torch.equal(task.validation.labels, still.validation.labels)
    assert torch.equal(test.labels, still.open_test().labels)
    assert sorted(row for rows in camera for row in rows) == list(range(1438 + 359))
    pixels = int(still.train.images[5].sum())
    expected = to_frames(formats.events(10, (12, 12), pixels + 7 * 5), (12, 12), EventSettings())
    assert (task.train.images[5].numpy() == expected).all()


def test_recordings_that_would_not_fit_are_refused_before_the_first(
    camera: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVOSPIKE_MEMORY", "2 GB")
    crowded = SimulatorSettings(loops=1000, threshold=0.01, threshold_spread=0.0, noise_hz=0.0)
    with pytest.raises(
        DataError, match=r"^simulating 'digits-events', [\d,]+ events a recording, would take about .*GB"
    ):
        load_task(DataSettings(source="digits-events", simulator=crowded), 0)
    assert not camera
    load_task(DataSettings(source="digits-events"), 0)


@pytest.mark.usefixtures("camera")
def test_simulated_frames_are_cached_by_the_simulators_settings() -> None:
    small, large = (DataSettings(source="digits-events", simulator=SimulatorSettings(sensor=s)) for s in (4, 6))
    first, second = load_task(small, 0), load_task(large, 0)
    assert first.cache != second.cache
    assert load_task(small, 1).cache == first.cache


@pytest.mark.usefixtures("camera")
def test_cifar10_events_film_the_images(tmp_path: Path, pictures: Any, png: Any, write_parquet: Any) -> None:
    folder = tmp_path / "cifar10"
    write_parquet(folder / "train-0.parquet", [png(p) for p in pictures(30)], [i % 10 for i in range(30)])
    write_parquet(folder / "test-0.parquet", [png(p) for p in pictures(10, seed=1)], list(range(10)))
    camera, varied = SimulatorSettings(sensor=8), AugmentSettings(roll=1)  # rolling is for recordings, not for images
    settings = DataSettings(source="cifar10-events", folder=str(tmp_path), simulator=camera, augment=varied)
    task = load_task(settings, 0)
    assert (task.shape, task.simulated, task.split) == ((2, 8, 8), True, "official train/test")
    assert (len(task.train) + len(task.validation), len(task.open_test())) == (30, 10)


def test_counts_reach_the_network_as_they_are(nmnist_folder: Path) -> None:
    from evospike.data.augment import Augmenter
    from evospike.data.settings import AugmentSettings

    task = _task("nmnist", nmnist_folder)
    assert task.mean == (0.0, 0.0)
    batch = Augmenter(task, AugmentSettings(kind="none"), 0).eval_batch(task.train.images[:4])
    assert set(torch.unique(batch).tolist()) == set(torch.unique(task.train.images[:4]).float().tolist())


def test_image_size_is_what_the_network_sees(nmnist_folder: Path) -> None:
    settings = DataSettings(source="nmnist", folder=str(nmnist_folder), image_size=20)
    task = load_task(settings, 0)
    assert task.shape == (2, 20, 20)
    assert task.train.images.shape[-2:] == (34, 34)
    assert task.cache == load_task(DataSettings(source="nmnist", folder=str(nmnist_folder)), 0).cache


def test_sets_of_frames_are_taken_from_as_images_are(nmnist_folder: Path) -> None:
    task = _task("nmnist", nmnist_folder)
    proxy = proxy_subset(task.train, 10, 0)
    assert proxy.class_counts(10) == [1] * 10
    images, labels = proxy.take(torch.arange(10))
    assert images.shape == (10, 3, 2, 34, 34)
    assert labels.tolist() == list(range(10))
    mean, std = measured_normalisation(task.train)
    pixels = task.train.images.double() / 255
    assert mean == pytest.approx(pixels.mean((0, 1, 3, 4)).tolist())
    assert std == pytest.approx(pixels.movedim(2, 0).flatten(1).std(1, unbiased=False).tolist())


def test_known_facts() -> None:
    def shape(**values: Any) -> tuple[int, ...]:
        facts = known_facts(DataSettings(**values))
        assert facts is not None
        return facts.shape

    assert shape(source="cifar10dvs") == (2, 128, 128)
    assert shape(source="cifar10dvs", image_size=48) == (2, 48, 48)
    assert shape(source="digits-events") == (2, 48, 48)
    assert shape(source="digits-events", simulator=SimulatorSettings(sensor=20)) == (2, 20, 20)
    assert shape(source="digits", image_size=16) == (1, 16, 16)
    assert known_facts(DataSettings(source="frames:x")) is None
    for events, still in (("digits-events", "digits"), ("cifar10-events", "cifar10")):
        assert (KNOWN[events].train, KNOWN[events].test) == (KNOWN[still].train, KNOWN[still].test)


def test_the_catalogue_knows_events(cifar10dvs: Path, gesture: Path) -> None:
    listed = {item["name"]: item for item in list_sources(str(cifar10dvs))}
    assert listed["cifar10dvs"]["where"] == str(cifar10dvs / "cifar10dvs")
    assert listed["dvsgesture"]["available"] is True
    assert listed["nmnist"]["available"] is False
    assert (listed["digits-events"]["available"], listed["digits-events"]["simulated"]) == (True, True)
    settings = DataSettings(source="cifar10dvs", folder=str(cifar10dvs), image_size=48)
    facts = describe(settings)
    assert (facts["shape"], facts["sensor"], facts["frames"]) == ([2, 48, 48], [128, 128], 10)
    assert (facts["split"], facts["simulated"]) == ("evospike 9/1 per class, seed 0", False)
    json.dumps(facts)
    assert build_cache(settings)["cache"] == facts["cache"]
    assert facts["cache_bytes"] > 100 * 10 * 2 * 128 * 128


def test_changed_files_are_read_again(nmnist_folder: Path, formats: Any) -> None:
    first = _task("nmnist", nmnist_folder)
    changed = nmnist_folder / "nmnist" / "Train" / "0" / "00000.bin"
    changed.write_bytes(formats.nmnist(formats.events(21, (34, 34))))
    second = _task("nmnist", nmnist_folder)
    assert second.cache != first.cache
    assert second.train.images[0].sum() == 21


def test_a_wrong_frame_type_is_not_unpickled(frame_folder: Callable[..., Path]) -> None:
    home = frame_folder("given", ("train", "test"))
    stream = io.BytesIO()
    np.savez(stream, frames=np.array([{"a": 1}], dtype=object))
    (home / "train" / "a" / "0.npz").write_bytes(stream.getvalue())
    with pytest.raises(DataError, match="cannot read the frames in"):
        _task(f"frames:{home}")
