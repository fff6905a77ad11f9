"""Never lose work: resumed runs equal uninterrupted ones, whatever ended them."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightseg.errors import BadInput, OutputError, WeightsError
from lightseg.train import checkpoint, losses
from lightseg.train.logs import Files, Silent
from lightseg.train.loop import Diverged, Stopped
from lightseg.train.recipe import Recipe
from lightseg.train.run import Job, fit
from lightseg.zoo import create_model

Make = Callable[..., Recipe]


class StopAt(Silent):
    """Does something at one step of the run."""

    def __init__(self, step: int, do: Callable[[], None]) -> None:
        self.at, self.do = step, do

    def step(self, step: int, steps: int, loss: float) -> None:
        if step == self.at:
            self.do()


@pytest.fixture(autouse=True)
def flush_denormal_off() -> Iterator[None]:
    yield
    torch.set_flush_denormal(False)


def weights(out: Path) -> dict[str, Tensor]:
    return dict(create_model("sinet", out / "sinet.safetensors").net.state_dict())


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


def test_two_runs_of_one_recipe_are_equal_to_the_bit(demo: Path, tmp_path: Path, tiny: Make) -> None:
    for name in "ab":
        fit(Job(tiny(epochs=1), demo, tmp_path / name))
    assert_same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    fit(Job(tiny(epochs=1, seed=1), demo, tmp_path / "c"))
    a, c = weights(tmp_path / "a"), weights(tmp_path / "c")
    assert any(not torch.equal(a[k], c[k]) for k in a)


@pytest.mark.parametrize(("step", "where"), [(6, "epoch 2, step 2"), (4, "epoch 1, step 4")])
def test_sigterm_saves_and_the_resumed_run_is_equal(
    demo: Path, tmp_path: Path, tiny: Make, step: int, where: str
) -> None:
    recipe = tiny()
    fit(Job(recipe, demo, tmp_path / "whole"))
    stop = StopAt(step, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped, match=f"{where}, and saved; the same command with --resume"):
        fit(Job(recipe, demo, tmp_path / "halves", stop))
    fit(Job(recipe, demo, tmp_path / "halves", resume=True))
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "halves"))
    rows = [checkpoint.read(tmp_path / n / checkpoint.NAME)["position"]["history"] for n in ("whole", "halves")]
    for a, b in zip(*rows):
        assert a["loss"] == b["loss"] and a["score"] == b["score"]


@pytest.mark.slow
def test_sigkill_in_mid_epoch_loses_nothing(demo: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(demo), "--recipe", "sinet_portrait", "init=random", "revive=false", "compile=false"]
    arguments += ["height=64", "width=64", "batch=4", "epochs=2", "holdout=0", "checkpoint_steps=2", "warmup_steps=2"]
    main = [sys.executable, "-W", "ignore", "-m", "lightseg.train.cli", *arguments]
    out = tmp_path / "killed"
    first = subprocess.Popen([*main, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (out / checkpoint.NAME).is_file() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    position = checkpoint.read(out / checkpoint.NAME)["position"]
    assert (position["epoch"], position["step"]) != (2, 0)
    done = subprocess.run([*main, "--out", str(out), "--resume"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([*main, "--out", str(tmp_path / "whole")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_same(weights(tmp_path / "whole"), weights(out))


def test_a_loss_of_nan_stops_and_keeps_the_checkpoint(
    demo: Path, tmp_path: Path, tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    of_recipe = losses.of_recipe

    def poisoned(recipe: Recipe, width: int, *rest: Any) -> Callable[..., Tensor]:
        def loss(output: Tensor, labels: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            value = of_recipe(recipe, width, *rest)(output, labels)
            return value * float("nan") if calls == 6 else value

        return loss

    monkeypatch.setattr(losses, "of_recipe", poisoned)
    with pytest.raises(Diverged, match=r"loss is nan in epoch 2, step 2.*lr=0.00025"):
        fit(Job(tiny(), demo, tmp_path))
    kept = checkpoint.read(tmp_path / checkpoint.NAME)
    assert kept["position"]["epoch"] == 1
    assert all(bool(torch.isfinite(v).all()) for v in kept["net"].values() if v.is_floating_point())


def test_a_full_disk_leaves_the_previous_checkpoint_whole(demo: Path, tmp_path: Path, tiny: Make) -> None:
    recipe = tiny(epochs=1)
    fit(Job(recipe, demo, tmp_path))
    path = tmp_path / checkpoint.NAME
    before = path.read_bytes()
    net = create_model("sinet", "random").net
    state = checkpoint.State(net, torch.optim.Adam(net.parameters()), None)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # the system refuses to write further, as when full
    try:
        with pytest.raises(OutputError, match="untouched"):
            checkpoint.save(path, recipe, state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir() if "checkpoint" in p.name) == [checkpoint.NAME]


def test_another_recipe_cannot_resume(demo: Path, tmp_path: Path, tiny: Make) -> None:
    with pytest.raises(Stopped):
        fit(Job(tiny(), demo, tmp_path, StopAt(1, lambda: os.kill(os.getpid(), signal.SIGTERM))))
    with pytest.raises(BadInput, match="other values of epochs, lr"):
        fit(Job(tiny(epochs=3, lr=1.0), demo, tmp_path, resume=True))
    with pytest.raises(BadInput, match="already holds a run"):
        fit(Job(tiny(), demo, tmp_path))


def test_a_refused_resume_leaves_the_recipe_that_made_the_checkpoint(demo: Path, tmp_path: Path, tiny: Make) -> None:
    with pytest.raises(Stopped):
        fit(Job(tiny(), demo, tmp_path, StopAt(1, lambda: os.kill(os.getpid(), signal.SIGTERM))))
    before = (tmp_path / "recipe.yaml").read_text()
    with pytest.raises(BadInput, match="other values of lr"):
        fit(Job(tiny(lr=1.0), demo, tmp_path, resume=True))
    assert (tmp_path / "recipe.yaml").read_text() == before


def test_a_stopped_first_stage_is_kept_and_gone_on_with(demo: Path, tmp_path: Path, tiny: Make) -> None:
    recipe = tiny(encoder_epochs=2, epochs=1, batch=8)
    fit(Job(recipe, demo, tmp_path / "whole", Files(tmp_path / "whole")))
    out = tmp_path / "halves"
    with pytest.raises(Stopped, match=r"epoch 2, step 1, .*the same command with --resume"):
        fit(Job(recipe, demo, out, StopAt(3, lambda: os.kill(os.getpid(), signal.SIGTERM))))
    with pytest.raises(BadInput, match="already holds a run"):
        fit(Job(recipe, demo, out))
    fit(Job(recipe, demo, out, resume=True))
    assert_same(weights(tmp_path / "whole"), weights(out))
    rows = {name: (tmp_path / "whole" / name / "log.csv").read_text().count("\n") - 1 for name in ("encoder", ".")}
    assert rows == {"encoder": 2, ".": 1}, "each stage has its own log"


def test_files_a_run_goes_on_from_are_no_weights(demo: Path, tmp_path: Path, tiny: Make) -> None:
    """They do not say how to feed the network: taken for weights, they would score nothing without a word."""
    fit(Job(tiny(epochs=1, batch=8, keep="best"), demo, tmp_path))
    for name in (checkpoint.NAME, checkpoint.BEST):
        with pytest.raises(WeightsError, match=rf"{name} is what a training run goes on from.*\.safetensors"):
            create_model("sinet", tmp_path / name)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layout": "camvid"}, "layout camvid has streets, and the network is for portraits; its layouts are pairs"),
        ({"model": "c3net"}, "layout pairs has portraits, and the network is for streets; its layouts are cityscapes"),
        ({"height": 100}, "try height=96 width=64"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(
    demo: Path, tmp_path: Path, tiny: Make, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        fit(Job(tiny(init="random", **changes), demo, tmp_path, StopAt(1, lambda: pytest.fail("it trained"))))


def test_a_street_network_has_no_teachers(demo: Path, tmp_path: Path, tiny: Make) -> None:
    street = {"model": "c3net", "layout": "camvid", "train_folder": "street_train", "val_folder": "street_val"}
    with pytest.raises(BadInput, match="c3net knows more than two classes"):
        fit(Job(tiny(**street, teachers=["sinet"], teacher_weight=1), demo, tmp_path))


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(BadInput, match=r"checkpoint.pt is damaged"):
        checkpoint.read(tmp_path / "checkpoint.pt")


@pytest.mark.slow
def test_two_processes_train_like_one(demo: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(demo), "--recipe", "sinet_portrait", "init=random", "revive=false", "compile=false"]
    arguments += ["height=64", "width=64", "batch=8", "epochs=3", "holdout=0", "warmup_steps=2", "ema=0"]
    arguments += ["keep=best", "validate_every=3"]  # the others end while the first still chooses
    scores = {}
    for count in (1, 2):
        start = ["-m", "torch.distributed.run", "--nproc-per-node", str(count), "--master-port", str(29530 + count)]
        command = [sys.executable, "-W", "ignore", *start, "-m", "lightseg.train.cli", *arguments]
        out = tmp_path / str(count)
        done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
        scores[count] = checkpoint.read(out / checkpoint.NAME)["position"]["history"]
    for one, two in zip(scores[1], scores[2]):
        assert two["loss"] == pytest.approx(one["loss"], rel=0.1)
    assert scores[1][-1]["loss"] < scores[1][0]["loss"] and scores[2][-1]["loss"] < scores[2][0]["loss"]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores, on a machine with one
@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("sinet", {"encoder_epochs": 1, "keep": "best", "schedule": "halve", "optimiser": "adam", "normalise": "data"}),
        ("extremec3net", {"encoder_epochs": 1, "loss": "lovasz", "channels_last": False}),
        ("extremec3net", {"class_weights": True}),
        ("sinet", {"amp": True}),
        ("sinet", {"workers": 2, "scales": [1.0, 0.5]}),
        ("sinet", {"optimiser": "sgd", "schedule": "poly", "warmup_share": 0.5, "ema": 0, "augment": "none"}),
    ],
)
def test_portrait_stages_and_options_run(
    demo: Path, tmp_path: Path, tiny: Make, model: str, changes: dict[str, object]
) -> None:
    path = fit(Job(tiny(model=model, epochs=1, batch=8, **changes), demo, tmp_path))
    loaded = create_model(model, path)
    assert 0 <= loaded.weights.figures["iou"].value <= 100
    assert path.stat().st_size < 500_000
    assert (tmp_path / "predictions.png").is_file() and (tmp_path / "recipe.yaml").is_file()


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("c3net", {"encoder_epochs": 1, "class_weights": True, "augment": "border_crop", "scales": [0.5]}),
        ("sinet_cityscapes", {"aux_weight": 0.25, "augment": "scale_crop"}),
    ],
)
def test_street_recipes_run(demo: Path, tmp_path: Path, tiny: Make, model: str, changes: dict[str, object]) -> None:
    base = {"layout": "camvid", "train_folder": "street_train", "val_folder": "street_val", "edge_weight": 0.0}
    recipe = tiny(**{"model": model, "epochs": 1, "height": 128, "width": 128, **base, **changes})
    path = fit(Job(recipe, demo, tmp_path))
    assert 0 <= create_model(model, path).weights.figures["miou"].value <= 100


def test_the_weights_that_leave_are_clean(demo: Path, tmp_path: Path, tiny: Make) -> None:
    fit(Job(tiny(epochs=1), demo, tmp_path))
    net = create_model("sinet", tmp_path / "sinet.safetensors").net
    for module in net.modules():
        if isinstance(module, nn.PReLU):
            assert float(module.weight.detach().abs().max()) <= 1.0
    for value in net.state_dict().values():
        if value.is_floating_point():
            tiny_ones = (value != 0) & (value.abs() < torch.finfo(torch.float32).tiny)
            assert not bool(tiny_ones.any())
