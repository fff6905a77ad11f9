"""What a schedule would cost: every stage and size is timed, the images of the whole are counted, nothing is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightseg.errors import UnknownName
from lightseg.train import gpu
from lightseg.train import recipe as recipes
from lightseg.train.cli import main
from lightseg.train.datasets import Order, Samples, read
from lightseg.train.estimate import Endless, Part, estimate
from lightseg.train.estimate_table import tables
from lightseg.train.heads import Coarse
from lightseg.train.layouts import find_pairs
from lightseg.train.loop import batches
from lightseg.train.recipe import Recipe
from lightseg.train.run import Job
from lightseg.train.standins import STANDINS, real_or_standin
from lightseg.train.world import World
from lightseg.zoo import MODELS, create_model

SMALL = ["init=random", "revive=false", "compile=false", "height=64", "width=64", "batch=4"]


def test_every_stage_and_size_is_timed(demo: Path, tmp_path: Path, tiny: Callable[..., Recipe]) -> None:
    recipe = tiny(scales=[1.0, 1.5], encoder_epochs=3, encoder_batch=8, epochs=5)
    parts = list(estimate(Job(recipe, demo, tmp_path), seconds=0.0))
    assert [(p.stage, p.height, p.images) for p in parts] == [
        ("encoder", 64, 3 * 16),
        ("encoder", 96, 3 * 16),
        ("network", 64, 5 * 16),
        ("network", 96, 5 * 16),
    ]
    for part in parts:
        assert part.images_per_second > 0
        assert sum(part.shares.values()) == pytest.approx(1)
        assert part.hours == pytest.approx(part.images / part.images_per_second / 3600)
    assert not list(tmp_path.iterdir())


def test_loader_workers_are_started_once(
    demo: Path, tmp_path: Path, tiny: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timed step is one of the run's, not one behind a start of processes: the images at hand come round again."""
    orders: list[Order] = []

    def noted(samples: Samples, order: Order, recipe: Recipe, world: World) -> Iterator[tuple[Tensor, Tensor]]:
        orders.append(order)
        return batches(samples, order, recipe, world)

    monkeypatch.setattr("lightseg.train.estimate.batches", noted)
    (part,) = estimate(Job(tiny(batch=16), demo, tmp_path), seconds=1.0)
    assert part.steps > 1 and len(orders) == 1
    turns = [{turn for turn, _ in keys} for keys in islice(Endless(8, 4, 0), 5)]
    assert turns == [{0}, {0}, {1}, {1}, {2}]


def test_incomplete_batches_are_left_out_as_in_training(
    demo: Path, tmp_path: Path, tiny: Callable[..., Recipe]
) -> None:
    (part,) = estimate(Job(tiny(epochs=2, batch=16), demo, tmp_path), count=1000, seconds=0.0)
    assert part.images == 2 * 62 * 16
    assert part.batch == 16


def test_the_command_says_hours_and_writes_json(demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "e.json"
    call = ["--recipe", "sinet_portrait", "--data", str(demo), "--estimate", "--count", "1944", "--seconds", "1"]
    assert main([*call, "--json", str(file), *SMALL, "holdout=0"]) == 0
    told = capsys.readouterr()
    assert "images/s in batches of 4" in told.err and "| sinet_portrait | network | 64×64 |" in told.out
    (part,) = json.loads(file.read_text())["parts"]
    assert part["images"] == 1944 * 27 and part["recipe"] == "sinet_portrait"


def test_without_a_recipe_every_recipe_is_timed_on_generated_data_where_its_own_are_missing(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, int | None]] = []

    def noted(job: Job, count: int | None, seconds: float) -> list[Part]:
        asked.append((job.recipe.model, count))
        assert find_pairs(job.recipe.layout, job.data, job.recipe.train_folder)
        return [part(hours=2.0)]

    monkeypatch.setattr("lightseg.train.estimate.estimate", noted)
    monkeypatch.setattr("lightseg.train.standins.PAIRS", 3)
    assert main(["--estimate", "--data", str(demo), "--json", str(tmp_path / "e.json")]) == 0
    parts = json.loads((tmp_path / "e.json").read_text())["parts"]
    assert [p["recipe"] for p in parts] == recipes.available()
    data = {p["recipe"]: p["data"] for p in parts}
    assert data["sinet_portrait"] == f"in {demo}"
    assert data["sinet_cityscapes"] == "generated, 1024x2048, in place of the 2,975 pairs of Cityscapes"
    assert ("sinet_cityscapes", 2975) in asked and ("sinet", None) in asked
    assert f"10 of {len(parts)}: " in capsys.readouterr().err


@pytest.mark.parametrize("layout", STANDINS)
def test_stand_ins_are_as_large_as_the_data_they_stand_for(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightseg.train.standins.PAIRS", 3)
    recipe = recipes.build({"model": "sinet", "layout": layout, "holdout": 0.5, "train_folder": "a"})
    data = real_or_standin(recipe, None, tmp_path)
    few = Job(data.recipe, data.folder, tmp_path).pairs()[0]
    image, mask = read(few[0], data.recipe.layout)
    assert image.shape[:2] == STANDINS[layout].size and len(set(mask.ravel().tolist())) > 1
    assert data.count == round(STANDINS[layout].pairs * 0.5)
    assert real_or_standin(recipe, None, tmp_path, count=7).count == 7


def test_a_recipe_asked_for_by_name_needs_its_data(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--estimate", "--recipe", "c3net_cityscapes", "--data", str(demo)]) == 1
    assert "www.cityscapes-dataset.com" in capsys.readouterr().err
    with pytest.raises(UnknownName):
        recipes.load("all")


def test_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["--estimate"]) == 1 and "without torchrun" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["sinet", "extremec3net", "c3netv2"])
def test_counted_macs_are_those_of_the_model(name: str) -> None:
    spec = MODELS[name]
    expected = {"sinet": 63_870_448, "extremec3net": 127_766_912, "c3netv2": 2_292_056_064}[name]
    net = create_model(name, "random").net
    found = gpu.work(net, *spec.input_size)
    assert found.macs == expected
    assert 0 < gpu.work(Coarse(net), *spec.input_size).outputs < 1.1 * found.outputs
    assert next(net.parameters()).device.type == "cpu" and net(torch.zeros(2, 3, 64, 64)).isfinite().all()


def test_the_gpu_is_predicted_within_the_published_rates() -> None:
    slow, fast = gpu.rates()
    for images, outputs in gpu.PUBLISHED.values():
        assert 2 * slow <= images * outputs * 1e6 * 1.000001 and images * outputs * 1e6 <= fast
    best, worst = gpu.hours(1_000_000, 10_000_000)
    assert best == pytest.approx(1e13 / fast / 3600) and worst == pytest.approx(1e13 / slow / 3600)


def part(**changes: float) -> Part:
    """One that takes ``hours``, for 36,000 images."""
    hours = changes.pop("hours")
    shares = {"data": 0.1, "forward": 0.4, "backward": 0.4, "optimiser": 0.1} | changes
    return Part("network", 64, 96, 4, 3, True, 10 / hours, shares, 36_000, 10**9, 10**7)


def test_sizes_of_a_stage_are_put_together_by_their_time() -> None:
    both = [("a", part(hours=1.0, data=0.0)), ("a", part(hours=3.0, data=0.4)), ("b", part(hours=1.0))]
    text = tables(both)
    assert "| a | network | 2 from 64×96 to 64×96 | 6 of 4 | 5 | 30% |" in text and "| 72,000 | 4 |" in text
    assert "seconds of CPU time" in text and text.count("| b | network |") == 2
