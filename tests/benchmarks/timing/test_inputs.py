from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightseg.benchmarks.timing.inputs import INPUT_BYTES, how_many, network_inputs, photographs
from lightseg.errors import BadInput
from lightseg.zoo import MODELS


def test_photographs_differ_and_can_be_made_again() -> None:
    photos = photographs(8, (32, 48))
    assert {p.shape for p in photos} == {(32, 48, 3)}
    assert len({p.tobytes() for p in photos}) == 8
    assert all((a == b).all() for a, b in zip(photos, photographs(8, (32, 48)), strict=True))


def test_photographs_of_a_folder_take_turns(tmp_path: Path) -> None:
    for grey in (20, 250):
        Image.new("RGB", (40, 30), (grey, grey, grey)).save(tmp_path / f"{grey}.png")
    means = [p.mean() for p in photographs(4, (16, 16), tmp_path)]
    assert max(means[0], means[2]) < min(means[1], means[3])


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no pictures"):
        photographs(4, (16, 16), tmp_path)


@pytest.mark.parametrize("name", MODELS)
def test_inputs_lie_in_the_range_the_weights_were_trained_on(name: str) -> None:
    preprocess = MODELS[name].weights[0].preprocess
    low, high = ((v - np.array(preprocess.mean)) / np.array(preprocess.std) for v in (0, 255))
    x = np.stack(network_inputs(photographs(4, (32, 32)), preprocess))
    assert x.dtype == np.float32
    assert (x >= low.min() - 1e-6).all() and (x <= high.max() + 1e-6).all()
    assert x.std() > 0.1 * (high - low).min()


def test_pixels_pass_untouched_where_the_file_normalises_them() -> None:
    photos = photographs(3, (8, 8))
    assert (network_inputs(photos, None)[0][0].transpose(1, 2, 0) == photos[0]).all()


def test_a_batch_holds_different_photographs() -> None:
    photos = photographs(3, (8, 8))
    inputs = network_inputs(photos, None, batch=2)
    assert [x.shape for x in inputs] == [(2, 3, 8, 8)] * 3
    assert (inputs[2][1] == inputs[0][0]).all()
    assert (inputs[0][0] != inputs[0][1]).any()


@pytest.mark.parametrize(
    ("shape", "count"), [((1, 3, 224, 224), 32), ((1, 3, 1024, 2048), 10), ((64, 3, 1024, 2048), 3)]
)
def test_inputs_fit_in_memory(shape: tuple[int, ...], count: int) -> None:
    assert how_many(shape, 32) == count
    assert count == 3 or count * 4 * np.prod(shape) <= INPUT_BYTES
