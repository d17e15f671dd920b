"""Inputs that once ended in a traceback, a hang or worse, as plain tests."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile_fuzz import check_message, deadline

from evospike.core.errors import CheckpointError, DataError, RunError, SettingsError, SpecError, StoreError
from evospike.core.files import load_tensors, save_tensors
from evospike.data.cache import load_cached
from evospike.data.events.gesture import find_gesture, parse_intervals
from evospike.evolution.ledger import STUDY, WINNER, Ledger
from evospike.evolution.records import Genotype, Request, Score
from evospike.evolution.store import Store
from evospike.jobs.conduct import conduct
from evospike.jobs.folder import RunFolder, open_run, write_record
from evospike.jobs.genomes import read_model
from evospike.jobs.plan import Plan
from evospike.jobs.progress import PROGRESS, read_progress
from evospike.jobs.ranking import _number
from evospike.jobs.recipe import read_recipe
from evospike.jobs.records import created, numbers_of, read_study
from evospike.models.presets import small8
from evospike.models.spec import NetworkSpec
from evospike.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, saved_record


def altered_spec(change: dict[str, Any], node: dict[str, Any] | None = None) -> str:
    plain = json.loads(small8((1, 8, 8), 10).to_json()) | change
    plain["nodes"][0] |= node or {}
    return json.dumps(plain)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        altered_spec({"classes": 10**400}),
        altered_spec({"classes": True}),
        altered_spec({"input_shape": [1, 8.0, 8]}),
        altered_spec({"name": ["x"]}),
        altered_spec({"name": "a\nb"}),
        altered_spec({"events": 1}),
        altered_spec({}, {"name": 3}),
        altered_spec({}, {"name": "a\x1b[2J"}),
        altered_spec({}, {"op": ["conv"]}),
        altered_spec({}, {"inputs": [["input", 0, 10**9]]}),
        altered_spec({}, {"inputs": [["input", 0.0, 0]]}),
        altered_spec({}, {"inputs": [["input", 0, float("nan")]]}),
        altered_spec({}, {"inputs": [[["input"]]]}),
    ],
    ids=range(14),
)
def test_specifications(text: str) -> None:
    with pytest.raises(SpecError) as caught, deadline(5.0):
        NetworkSpec.from_json(text)
    check_message(str(caught.value))


@pytest.mark.parametrize("name", ["x" * 5000, "a\x00b", "x" * 300 + ".toml", "/" + "x" * 300, "\ud800.toml"])
def test_names_that_no_file_can_have(name: str) -> None:
    for read, error in ((read_recipe, SettingsError), (read_model, RunError), (open_run, RunError)):
        with pytest.raises(error):
            read(name)


@pytest.mark.parametrize("change", ["run.device={" + "a." * 5000 + "}", 'data.source="' + "x" * 10**5 + '"'])
def test_texts_that_no_line_can_hold(change: str) -> None:
    """What was given is quoted, but the end, which says what to do, can be read."""
    with pytest.raises(SettingsError) as caught:
        read_recipe("digits", [change])
    check_message(str(caught.value))


def tensor_file(path: Path, header: dict[str, Any], data: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def claim(kind: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "header",
    [
        {"a": claim("U8", [1], 0, 1), "b": claim("F32", [1], 1, 5)},
        {"a": claim("F4", [2], 0, 1)},
        {"a": claim("F8_E8M0", [1], 0, 1)},
        {"x" * 9000: claim("U8", [9], 0, 1)},
    ],
    ids=["misaligned", "half a byte", "a rare type", "a long name"],
)
def test_tensor_files(tmp_path: Path, header: dict[str, Any]) -> None:
    size = max(one["data_offsets"][1] for one in header.values())
    tensor_file(tmp_path / "x.safetensors", header, bytes(size))
    with pytest.raises(CheckpointError) as caught:
        load_tensors(tmp_path / "x.safetensors")
    check_message(str(caught.value))


@pytest.mark.parametrize("record", ["[" * 100_000, "[]", "3", "NaN", '{"step": 1e999}', "{"])
def test_a_checkpoint_whose_record_is_none(tmp_path: Path, record: str) -> None:
    """The pair before it is taken, and told."""
    tensors = {"w": torch.ones(2)}
    save_checkpoint(tmp_path, 1, Checkpoint(tensors, tensors, {"step": 1}))
    checksum = save_tensors(tmp_path / "step-000000002.weights.safetensors", tensors)
    save_tensors(tmp_path / "step-000000002.state.safetensors", tensors, {"record": record, "weights": checksum})
    assert saved_record(tmp_path) == {"step": 1}
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert found[0].record == {"step": 1}
    assert [line[:35] for line in found[1]] == ["checkpoint of step 2 passed over: /"[:35]]


@pytest.mark.parametrize("text", [f"{10**400} 1", "1 1" + "0" * 4400, "1", "1 0", "a b", "\xff\xff", "1 2" + " " * 999])
def test_progress_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / PROGRESS).write_bytes(text.encode("latin-1"))
    assert read_progress(tmp_path) == 0.0


@pytest.mark.parametrize("line", [b"1" * 4000 + b",1,2", b"1,2," + b"9" * 4200, b"1" * 5000 + b",1,2"])
def test_gestures_of_long_numbers(line: bytes) -> None:
    with pytest.raises(DataError) as caught:
        parse_intervals(b"class,start,end\n" + line, "file")
    check_message(str(caught.value))


def test_a_list_of_recordings_with_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    for name in ("x" * 5000, "a\x00"):
        (tmp_path / "trials_to_train.txt").write_text(f"{name}.aedat\n")
        (tmp_path / "trials_to_test.txt").write_text(f"{name}.aedat\n")
        with pytest.raises(DataError) as caught:
            find_gesture(tmp_path)
        check_message(str(caught.value))


@pytest.mark.parametrize(
    "change",
    [
        {"splits": []},
        {"splits": {"../train": {"shape": [1], "digest": ""}}},
        {"splits": {}},
        {"classes": ["a"]},
        {"classes": 3},
        {"classes": [1, 2]},
        {"name": None},
        {"notes": [[]]},
    ],
)
def test_manifests(tmp_path: Path, change: dict[str, Any]) -> None:
    """A cache that does not fit is made anew; its labels are those of its classes."""
    np.save(tmp_path / "train.npy", np.zeros((2, 1, 2, 2), np.uint8))
    np.save(tmp_path / "train.labels.npy", np.array([0, 1]))
    part = {"shape": [2, 1, 2, 2], "digest": "0"}
    sound = {"format": 1, "name": "x", "classes": ["a", "b"], "notes": [], "splits": {"train": part}}
    (tmp_path / "manifest.json").write_text(json.dumps(sound))
    assert load_cached(tmp_path) is not None
    (tmp_path / "manifest.json").write_text(json.dumps(sound | change))
    assert load_cached(tmp_path) is None
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    assert load_cached(tmp_path) is None


@pytest.mark.parametrize("shape", [(2**33, 2**31, 1, 1), (-2, -4), (2, 10**18), ()])
def test_arrays_that_claim_what_they_do_not_hold(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """The sizes of some of them multiply to 0 in 64 bits."""
    from evospike.data.npy import declared_in

    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(ValueError, match="claims"):
        declared_in(tmp_path / "x.npy")


@pytest.mark.parametrize(
    "change", [{"threads": 0}, {"threads": 10**9}, {"path": "x"}, {"seconds": float("inf")}, {"versions": {"torch": 3}}]
)
def test_plans(change: dict[str, Any]) -> None:
    sound = Plan("cpu", 1, "eager", {}, "", {}, {}, 1.0).to_plain()
    assert Plan.from_plain(sound).threads == 1
    with pytest.raises(RunError, match=r"plan\.json of the run was altered"):
        Plan.from_plain(sound | change)


@pytest.mark.parametrize("winner", [None, 3, {}, {"genome": []}, {"genome": {"format": 1}}])
def test_a_search_whose_winner_is_none(tmp_path: Path, winner: Any) -> None:
    recipe = read_recipe("digits-search").to_plain()
    write_record(tmp_path / "run.json", {"format": 1, "verb": "search", "recipe": recipe})
    write_record(tmp_path / "result.json", {"winner": winner})
    with pytest.raises((RunError, SettingsError)) as caught:
        read_model(tmp_path)
    check_message(str(caught.value))


@pytest.mark.parametrize(
    "change",
    [
        {"genotype": {"names": [0.5], "values": [1.0]}},
        {"genotype": {"names": [["x"]], "values": [1.0]}},
        {"draw_key": [["x"]]},
        {"generation": True},
    ],
)
def test_records_with_sealed_scores_of_other_types(tmp_path: Path, change: dict[str, Any]) -> None:
    request = Request("candidate", 0, 0, Genotype(("log10 a",), (1.0,)), ("search",))
    with Store.create(tmp_path / "study.sqlite") as store:
        content = {"request": request.to_json() | change, "score": Score("ok").to_json(), "attempts": 1}
        store._insert("score", request.key, content)
        with pytest.raises(StoreError, match=r"score '.*' in .*study\.sqlite has an unexpected form") as caught:
            store.scores()
    check_message(str(caught.value))


@pytest.mark.parametrize(
    "winner", [["68a2be68837d355cbf8b26ab89a7c8ee"], "x", 3, {"generation": "9", "candidate": None}]
)
def test_a_sealed_winner_that_is_none(tmp_path: Path, winner: Any) -> None:
    write_record(
        tmp_path / "run.json", {"format": 1, "verb": "search", "recipe": read_recipe("digits-search").to_plain()}
    )
    with Store.create(tmp_path / "study.sqlite") as store:
        store.record_generation(0, (Genotype(("a",), (1.0,)),))
        store._insert("value", WINNER, winner)
    with pytest.raises(RunError, match=r"the winner in .*study\.sqlite has an unexpected form") as caught:
        read_study(open_run(tmp_path), tmp_path / "study.sqlite")
    check_message(str(caught.value))


@pytest.mark.parametrize("seconds", [-1e308, 1e308, -1.0])
def test_a_sealed_score_that_took_an_impossible_time(tmp_path: Path, seconds: float) -> None:
    request = Request("candidate", 0, 0, Genotype(("a",), (1.0,)), ("search",))
    with Store.create(tmp_path / "study.sqlite") as store:
        content = {"request": request.to_json(), "score": Score("ok").to_json() | {"seconds": seconds}, "attempts": 1}
        store._insert("score", request.key, content)
        with pytest.raises(StoreError, match=r"score took .* seconds; expected 0 to ") as caught:
            store.scores()
    check_message(str(caught.value))


@pytest.mark.parametrize("said", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "2026", 3])
def test_a_run_that_was_created_at_an_impossible_time(tmp_path: Path, said: Any) -> None:
    recipe = read_recipe("digits-search").to_plain()
    write_record(tmp_path / "run.json", {"format": 1, "verb": "search", "recipe": recipe, "created": said})
    at = created(open_run(tmp_path)).astimezone()
    assert abs(at.timestamp() - (tmp_path / "run.json").stat().st_mtime) < 1


@pytest.mark.parametrize("known", [["68a2be68837d355cbf8b26ab89a7c8ee"], "x", 3])
def test_a_sealed_definition_of_a_study_that_is_none(tmp_path: Path, known: Any) -> None:
    with Store.create(tmp_path / "study.sqlite") as store:
        store.record_value(STUDY, known)
        with pytest.raises(StoreError, match=r"what defines the study in .*study\.sqlite is ") as caught:
            Ledger(store, lambda requests: iter(()), None, "no library").open({"seed": 0})
    check_message(str(caught.value))


def test_a_number_whose_power_is_none() -> None:
    with pytest.raises(RunError, match="genotype in the record of the run has an unexpected form"):
        numbers_of(Genotype(("log10 a",), (400.0,)))


def test_a_ranking_whose_scores_lack_one() -> None:
    with pytest.raises(StoreError, match="lacks 'hamming'"):
        _number({"cosine": 1.0, "hamming": None}, "hamming")


@pytest.mark.parametrize("gone", ["test_accuracy", "arm", "parameters"])
def test_a_resume_of_a_training_whose_result_lacks_something(trained: RunFolder, outside: Path, gone: str) -> None:
    shutil.copytree(trained.path, outside / "run", ignore=shutil.ignore_patterns("step-*", "*.lock*"))
    run = open_run(outside / "run")
    (run.path / "result.json").unlink()
    name = "final/genetic-0/result.json"
    result = run.read(name)
    assert result is not None
    run.write(name, {key: value for key, value in result.items() if key != gone})
    with pytest.raises(RunError, match=r"result\.json of a training has an unexpected form") as caught:
        conduct(run, run.recipe, quiet=True)
    check_message(str(caught.value))
