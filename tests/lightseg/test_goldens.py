"""The networks answer what the authors' code answers, bit of rounding apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lightseg.images import to_input
from lightseg.predict import class_logits, mask_from_logits
from lightseg.zoo import MODELS, SegmentationModel, find_weights

ITEMS = (0, 1, 2, 3)
TOLERANCE = 1e-5


@pytest.mark.parametrize("item", ITEMS)
@pytest.mark.parametrize("name", MODELS)
def test_logits_and_classes_equal_the_authors(
    name: str, item: int, clova: Callable[[str], SegmentationModel], goldens: Callable[[str], Path]
) -> None:
    model = clova(name)
    with np.load(goldens(name)) as golden, torch.inference_mode():
        logits = model(torch.from_numpy(golden[f"x{item}"])).numpy()
        full = f"y{item}" in golden.files
        expected = golden[f"y{item}"] if full else golden[f"y{item}_stride4"]
        peak = abs(expected).max() if full else golden[f"abs_max{item}"]
        authors = golden[f"pred{item}"]
        facts = json.loads(bytes(golden["meta_json"]))["items"][item]
    error = abs((logits if full else logits[:, :, ::4, ::4]) - expected).max()
    assert error / peak <= TOLERANCE
    assert list(logits.shape) == facts["output_shape"]
    other = mask_from_logits(logits, model.spec.labels)[0] != authors
    two_best = np.partition(class_logits(logits, model.spec.labels)[0], -2, axis=0)[-2:]
    margin = (two_best[1] - two_best[0])[other]
    assert (margin <= 2 * max(facts["max_abs_f32_vs_f64"], error)).all(), f"{other.sum()} pixels differ, up to {margin}"


@pytest.mark.parametrize("item", (0, 1, 2, 3))
@pytest.mark.parametrize("name", [n for n, s in MODELS.items() if s.task == "street"])
def test_channel_statistics_of_thinned_goldens(
    name: str, item: int, clova: Callable[[str], SegmentationModel], goldens: Callable[[str], Path]
) -> None:
    """Street goldens hold every fourth pixel; the means and deviations cover the others."""
    with np.load(goldens(name)) as golden, torch.inference_mode():
        logits = clova(name)(torch.from_numpy(golden[f"x{item}"])).double()[0]
        peak = float(golden[f"abs_max{item}"])
        np.testing.assert_allclose(logits.mean((1, 2)), golden[f"channel_mean{item}"], atol=TOLERANCE * peak)
        np.testing.assert_allclose(
            logits.std((1, 2), correction=0), golden[f"channel_std{item}"], atol=TOLERANCE * peak
        )
        assert float(logits.abs().max()) == pytest.approx(peak, rel=TOLERANCE)


@pytest.mark.parametrize("item", (1, 2))
@pytest.mark.parametrize("name", MODELS)
def test_preprocessing_equals_the_authors(name: str, item: int, goldens: Callable[[str], Path]) -> None:
    """The released BGR weights were evaluated on unrounded two-tap pixels, the street SINet on Pillow's."""
    preprocess = find_weights(MODELS[name], "clova").preprocess
    with np.load(goldens(name)) as golden:
        photo, expected = golden[f"img{item}_rgb_uint8"], golden[f"x{item}"]
    height, width = expected.shape[2:]
    x = to_input(photo, (height, width), preprocess, "point" if preprocess.order == "BGR" else "smooth")
    assert x.dtype == np.float32 and x.flags.c_contiguous
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-6)
    assert abs(expected).max() > 1e-3


@pytest.mark.parametrize("name", [n for n, s in MODELS.items() if find_weights(s, "clova").preprocess.order == "BGR"])
def test_smooth_resizing_hardly_changes_the_input(name: str, goldens: Callable[[str], Path]) -> None:
    preprocess = find_weights(MODELS[name], "clova").preprocess
    with np.load(goldens(name)) as golden:
        photo, expected = golden["img1_rgb_uint8"], golden["x1"]
    x = to_input(photo, (expected.shape[2], expected.shape[3]), preprocess)
    difference = abs(x - expected).mean()
    shifted = abs(np.roll(x, 1, axis=3) - expected).mean()
    assert 0 < difference < 0.03 * expected.std() < shifted  # a shift by one pixel would show
