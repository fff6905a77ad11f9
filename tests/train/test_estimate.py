"""What a schedule would cost: every stage and size is timed, the images of the whole are counted, nothing is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lightseg.train.cli import main
from lightseg.train.estimate import estimate
from lightseg.train.recipe import Recipe
from lightseg.train.run import Job


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


def test_incomplete_batches_are_left_out_as_in_training(
    demo: Path, tmp_path: Path, tiny: Callable[..., Recipe]
) -> None:
    (part,) = estimate(Job(tiny(epochs=2, batch=16), demo, tmp_path), count=1000, seconds=0.0)
    assert part.images == 2 * 62 * 16
    assert part.batch == 4


def test_the_command_says_hours_and_writes_json(demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["init=random", "revive=false", "compile=false", "height=64", "width=64", "batch=4", "holdout=0"]
    file = tmp_path / "e.json"
    call = ["--recipe", "sinet_portrait", "--data", str(demo), "--estimate", "--count", "1944", "--json", str(file)]
    assert main([*call, *small]) == 0
    assert "h on this machine" in capsys.readouterr().err
    (part,) = json.loads(file.read_text())["parts"]
    assert part["images"] == 1944 * 27
