"""The mean of several weights: what it is, what it is scored on, and what has none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lightseg.errors import BadInput
from lightseg.train import average as averages
from lightseg.train.cli import main
from lightseg.train.recipe import Recipe
from lightseg.train.run import Job
from lightseg.weights import save_weights
from lightseg.zoo import create_model

Make = Callable[..., Recipe]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged SINet with every parameter moved by a tenth of a per cent."""
    path = tmp_path_factory.mktemp("other") / "other.safetensors"
    model, rng = create_model("sinet"), torch.Generator().manual_seed(0)
    state = {
        name: value * (1 + 1e-3 * torch.randn(value.shape, generator=rng)) if value.is_floating_point() else value
        for name, value in model.net.state_dict().items()
    }
    save_weights(path, model.spec, model.weights, state)
    return path


def test_the_file_answers_as_the_mean_of_the_parameters(demo: Path, tmp_path: Path, tiny: Make, other: Path) -> None:
    names = ["lightseg", str(other)]
    found = averages.average(Job(tiny(), demo, tmp_path), names)
    parts = [create_model("sinet", name) for name in names]
    wanted = create_model("sinet")
    a, b = (part.net.state_dict() for part in parts)
    wanted.net.load_state_dict({k: (a[k] + b[k]) / 2 if a[k].is_floating_point() else a[k] for k in a})
    written = create_model("sinet", found.path)
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y, answers = wanted.net(x), [model.net(x) for model in (written, *parts)]
    size = y.abs().max()
    assert (answers[0] - y).abs().max() < 1e-4 * size
    assert min((answer - y).abs().max() for answer in answers[1:]) > 1e-4 * size, "the parts would pass for it"
    assert all(part.weights.sha256[:16] in written.weights.origin for part in parts)
    assert written.weights.preprocess == parts[0].weights.preprocess


def test_it_is_chosen_by_the_images_held_out(
    demo: Path, tmp_path: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--recipe", "sinet_portrait", "height=64", "width=64", "holdout=0.3", "--data", str(demo)]
    asked += ["--average", f"lightseg,{other}", "--out", str(tmp_path), "--json", "-"]
    assert main(asked) == 0
    said = json.loads(capsys.readouterr().out)
    held = Job(_recipe(asked), demo, tmp_path).pairs()[1]
    assert 0 < said["choosing"]["images"] == len(held) < 16
    assert list(said["choosing"]["parts"]) == ["lightseg", str(other)]
    assert said["figures"]["iou"]["source"].startswith("measured, portrait_val, 4 images at 64x64")


def _recipe(asked: list[str]) -> Recipe:
    from lightseg.train import recipe as recipes

    return recipes.load("sinet_portrait", [word for word in asked if "=" in word])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "takes two or more weights, not none"),
        (["lightseg"], "takes two or more weights, not lightseg"),
        (["lightseg", "lightseg"], "takes two or more"),
        (["lightseg", "random"], "random is fed otherwise than lightseg"),
    ],
)
def test_what_has_no_mean_is_refused(names: list[str], message: str, demo: Path, tmp_path: Path, tiny: Make) -> None:
    with pytest.raises(BadInput, match=message):
        averages.average(Job(tiny(), demo, tmp_path), names)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("file", ["sinet.safetensors", "checkpoint.pt"])
def test_what_is_there_stays(file: str, demo: Path, tmp_path: Path, tiny: Make, other: Path) -> None:
    (tmp_path / file).write_text("mine")
    with pytest.raises(BadInput, match="already holds weights or a run; give another --out DIR"):
        averages.average(Job(tiny(), demo, tmp_path), ["lightseg", str(other)])
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(file, "mine")]
