"""What is decided once: the neuron path, the device, the orders; and that a changed plan is noticed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import evospike.jobs.plan as plan_module
from evospike.core.errors import EncodingError, RunError
from evospike.data.task import load_task
from evospike.jobs.conduct import conduct
from evospike.jobs.folder import create_run
from evospike.jobs.plan import FUSED_FROM_SECONDS, Plan, choose_path, make_plan, resolve_device, training_count
from evospike.jobs.settings import FinalSettings


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch):
    def there(answer: bool) -> None:
        monkeypatch.setattr(plan_module, "compiler_available", lambda device: answer)

    return there


@pytest.mark.parametrize(
    ("wanted", "seconds", "path"),
    [
        ("eager", 1e6, "eager"),
        ("fused", 1.0, "fused"),
        ("auto", FUSED_FROM_SECONDS, "fused"),
        ("auto", FUSED_FROM_SECONDS - 1, "eager"),
    ],
)
def test_a_long_job_is_compiled(compiler, capsys, wanted: str, seconds: float, path: str) -> None:
    compiler(True)
    assert choose_path(wanted, seconds) == path
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("wanted", ["fused", "auto"])
def test_without_a_compiler_neurons_run_eagerly_with_one_notice(compiler, capsys, wanted: str) -> None:
    compiler(False)
    assert choose_path(wanted, 1e6) == "eager"
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "notice: no C++ compiler found; install g++ or clang++ for the fused path; neurons run eagerly\n"


def test_a_short_job_asks_for_no_compiler(compiler, capsys) -> None:
    compiler(False)
    assert choose_path("auto", 1.0) == "eager"
    assert capsys.readouterr().err == ""


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == "cpu"
    with pytest.raises(RunError, match=r"device 'cuda:1' is asked for but there is no CUDA device; use auto or cpu"):
        resolve_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [resolve_device(name) for name in ("auto", "cuda", "cuda:1", "cpu")] == ["cuda:0", "cuda:0", "cuda:1", "cpu"]
    with pytest.raises(RunError, match=r"device 'cuda:2' is asked for but they are cuda:0 to cuda:1"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("cuda", [True, False])
@pytest.mark.parametrize("wrong", ["cuda:x", "cuda:-1", "tpu", "", "auto:0"])
def test_what_is_no_device(monkeypatch: pytest.MonkeyPatch, wrong: str, cuda: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(RunError, match=f"device '{wrong}' is not known; give auto, cpu, cuda or cuda:N"):
        resolve_device(wrong)


def test_a_plan_is_the_same_when_made_again_and_survives_json(workshop) -> None:
    shop = workshop()
    again = make_plan(shop.recipe, shop.task, evolves=True)
    assert again == shop.plan
    assert Plan.from_plain(shop.plan.to_plain()) == shop.plan
    assert set(shop.plan.contractions) == {"conv2.conv", "conv3.conv", "conv4.conv"}
    assert shop.plan.data == {"train": shop.task.train.digest(), "validation": shop.task.validation.digest()}


def test_a_dense_recipe_has_no_orders(workshop) -> None:
    assert workshop("encoding.kind=dense").plan.contractions == {}


def test_workers_do_not_enter_the_plan(workshop) -> None:
    assert workshop("run.workers=4").plan == workshop().plan


@pytest.mark.parametrize("name", ["device", "threads", "path", "contractions", "spec", "data", "versions", "seconds"])
def test_an_altered_plan_is_refused(workshop, name: str) -> None:
    plain = workshop().plan.to_plain()
    for altered in ({**plain, name: None}, {key: plain[key] for key in plain if key != name}, {**plain, "extra": 1}):
        with pytest.raises(RunError, match=r"plan.json of the run was altered; restore it or start a new run"):
            Plan.from_plain(altered)


def test_epochs_that_will_be_trained(tiny) -> None:
    assert training_count(tiny(), evolves=True) == (9, 4)
    assert training_count(tiny(), evolves=False) == (0, 4)
    assert training_count(tiny("evolution.mode=random"), evolves=True) == (0, 4)
    assert training_count(tiny("final.seeds=3", "evolution.proxy_epochs=2"), evolves=True) == (18, 12)


def test_a_run_of_dense_networks_asks_nothing_of_the_encoding(tiny) -> None:
    """An encoding that fits no layer of the network is no obstacle where nothing is encoded."""
    recipe = tiny("final.arms=['dense']", "encoding.genes=1000", "encoding.skip_growing=true")
    task = load_task(recipe.data, 0)
    assert make_plan(recipe, task, evolves=False).contractions == {}
    with pytest.raises(EncodingError, match="no layer"):
        make_plan(replace(recipe, final=FinalSettings(arms=("genetic",))), task, evolves=False)


@pytest.mark.parametrize(
    "device", ["", "gpu", "xpu", "cuda", "cuda:x", "cuda:-1", "cuda:99999", "CPU", "cpu\n", "meta"]
)
def test_a_plan_of_no_device_is_refused(workshop, device: str) -> None:
    with pytest.raises(RunError, match=r"plan\.json of the run was altered"):
        Plan.from_plain({**workshop().plan.to_plain(), "device": device})


def test_a_run_that_began_on_a_gpu_is_not_resumed_without_one(
    tiny, workshop, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    recipe = tiny("final.arms=['genetic']")
    run = create_run("train", recipe, str(tmp_path / "run"))
    plan = {**workshop("final.arms=['genetic']").plan.to_plain(), "device": "cuda:0"}
    run.write("plan.json", plan)
    with pytest.raises(RunError, match=r"the run began on cuda:0, go on with it on a machine that has one \(device"):
        conduct(run, recipe, quiet=True)
