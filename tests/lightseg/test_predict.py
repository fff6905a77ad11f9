"""From logits to pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightseg.errors import BadInput, OutputError
from lightseg.images import read_photo, sample_photo
from lightseg.predict import (
    FOREGROUND,
    Floats,
    Prediction,
    class_logits,
    cutout_image,
    mask_from_logits,
    mask_image,
    mask_of_photo,
    overlay_image,
    predict_photo,
    prediction_from_logits,
    probability_from_logits,
    write_prediction,
)
from lightseg.spec import CITYSCAPES, PORTRAIT, Labels
from lightseg.zoo import MODELS, SegmentationModel

PERSON, SKY, CAR = (CITYSCAPES.names.index(n) for n in ("person", "sky", "car"))


def read_pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def noise(channels: int, size: tuple[int, int] = (6, 8), scale: float = 3) -> Floats:
    return np.random.default_rng(channels).normal(0, scale, (2, channels, *size)).astype(np.float32)


def street(*classes: int, channels: int = 20) -> Floats:
    """Logits 1×20×1×n that are certain of the classes."""
    logits = np.full((1, channels, 1, len(classes)), -9, np.float32)
    logits[0, list(classes), 0, range(len(classes))] = 9
    return logits


def test_one_channel_is_the_logit_of_the_person() -> None:
    logits = noise(1)
    logits[0, 0, 0, 0] = 0
    assert np.array_equal(mask_from_logits(logits, PORTRAIT), logits[:, 0] > 0)
    probability = probability_from_logits(logits, PORTRAIT)
    assert probability.shape == (2, 2, 6, 8)
    np.testing.assert_allclose(probability[:, 1], 1 / (1 + np.exp(-logits[:, 0])), atol=1e-6)


def test_two_channels_are_softmaxed() -> None:
    logits = noise(2)
    assert np.array_equal(mask_from_logits(logits, PORTRAIT), logits[:, 1] > logits[:, 0])
    expected = torch.from_numpy(logits).softmax(1)
    np.testing.assert_allclose(probability_from_logits(logits, PORTRAIT), expected, atol=1e-6)


@pytest.mark.parametrize("channels", [19, 20])
def test_channels_beyond_the_labels_do_not_count(channels: int) -> None:
    logits = noise(channels)
    if channels == 20:
        logits[:, 19] = 99
    assert np.array_equal(mask_from_logits(logits, CITYSCAPES), logits[:, :19].argmax(1))
    np.testing.assert_allclose(probability_from_logits(logits, CITYSCAPES).sum(1), 1, atol=1e-6)


def test_huge_logits_do_not_overflow() -> None:
    probability = probability_from_logits(noise(2, scale=1e7), PORTRAIT)
    assert np.isfinite(probability).all() and probability.max() <= 1


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (1, 0, 4, 4), (2, 4, 4)])
def test_wrong_channels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match="do not fit 19 classes"):
        class_logits(np.zeros(shape, np.float32), CITYSCAPES)
    three = Labels(("a", "b", "c"), ((0, 0, 0),) * 3)
    with pytest.raises(BadInput, match="do not fit 3 classes"):
        class_logits(np.zeros((1, 1, 4, 4), np.float32), three)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_never_becomes_a_mask(value: float) -> None:
    logits = noise(2)
    logits[0, 1, 2, 3] = value
    with pytest.raises(BadInput, match="NaN or infinity"):
        mask_from_logits(logits, PORTRAIT)


def test_logits_are_interpolated_before_they_are_cut() -> None:
    """A straight ramp crosses zero in the middle; nearest-neighbour enlarging would cross at a block's edge."""
    logits = np.array([[[[-3, 1]]]], np.float32)
    prediction = prediction_from_logits(logits, (1, 8), PORTRAIT)
    ramp = np.array([-3, -3, -2.5, -1.5, -0.5, 0.5, 1, 1])
    assert prediction.mask.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1]]
    np.testing.assert_allclose(prediction.alpha[0], ((ramp + 1) / 2).clip(0, 1), atol=1e-5)
    np.testing.assert_allclose(prediction.probability[0], 1 / (1 + np.exp(-abs(ramp))), atol=1e-6)


@pytest.mark.parametrize(("channels", "labels"), [(1, PORTRAIT), (2, PORTRAIT), (19, CITYSCAPES), (20, CITYSCAPES)])
def test_at_the_logits_own_size_nothing_is_interpolated(channels: int, labels: Labels) -> None:
    logits = noise(channels)[:1]
    prediction = prediction_from_logits(logits, (6, 8), labels)
    assert np.array_equal(prediction.mask, mask_from_logits(logits, labels)[0])
    np.testing.assert_allclose(prediction.probability, probability_from_logits(logits, labels)[0].max(0), atol=1e-6)


def test_strips_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = noise(20, (16, 32))[:1]
    whole = prediction_from_logits(logits, (101, 67), CITYSCAPES)
    monkeypatch.setattr("lightseg.predict.STRIP", 1)
    strips = prediction_from_logits(logits, (101, 67), CITYSCAPES)
    for name in ("mask", "probability", "alpha"):
        assert np.array_equal(getattr(whole, name), getattr(strips, name)), name


def test_foreground_of_a_street_is_what_moves() -> None:
    assert set(CITYSCAPES.names) > FOREGROUND and len(FOREGROUND) == 8
    prediction = prediction_from_logits(street(PERSON, SKY, CAR), (1, 3), CITYSCAPES)
    assert prediction.alpha.tolist() == [[1, 0, 1]]
    assert prediction.mask.tolist() == [[PERSON, SKY, CAR]]


def test_mask_values() -> None:
    portrait = prediction_from_logits(np.array([[[[-1, 1]]]], np.float32), (1, 2), PORTRAIT)
    assert mask_image(portrait, PORTRAIT).tolist() == [[0, 255]]
    city = prediction_from_logits(street(SKY, CAR), (1, 2), CITYSCAPES)
    assert mask_image(city, CITYSCAPES).tolist() == [[SKY, CAR]]


def test_cutout_and_overlay_values() -> None:
    photo = np.full((1, 3, 3), 200, np.uint8)
    alpha = np.array([[0, 0.5, 1]], np.float32)
    portrait = Prediction(np.array([[0, 1, 1]], np.uint8), alpha, alpha)
    assert cutout_image(portrait, photo)[0, :, 3].tolist() == [0, 128, 255]
    assert (cutout_image(portrait, photo)[..., :3] == photo).all()
    assert overlay_image(portrait, photo, PORTRAIT)[0].tolist() == [[200, 200, 200], [150, 205, 180], [100, 210, 160]]
    city = Prediction(np.array([[SKY, CAR, PERSON]], np.uint8), alpha, alpha)
    expected = (np.array([CITYSCAPES.colours[i] for i in (SKY, CAR, PERSON)]) + 200) / 2
    assert np.array_equal(overlay_image(city, photo, CITYSCAPES)[0], np.rint(expected))


@pytest.mark.parametrize("name", MODELS)
def test_products_have_the_photos_size_and_names(
    name: str, clova: Callable[[str], SegmentationModel], tmp_path: Path
) -> None:
    model = clova(name)
    size = (224, 224) if model.spec.task == "portrait" else (256, 512)
    photo = read_photo(sample_photo())[:400, 60:360]

    def run(images: Floats) -> Floats:
        assert images.shape == (1, 3, *size)
        with torch.inference_mode():
            logits: Floats = model(torch.from_numpy(images)).numpy()
        return logits

    prediction = predict_photo(run, photo, size, model.weights.preprocess, model.spec.labels)
    assert prediction.mask.shape == prediction.alpha.shape == prediction.probability.shape == (400, 300)
    paths = write_prediction(prediction, photo, "photo", tmp_path, model.spec.labels)
    assert [p.name for p in paths] == ["photo_mask.png", "photo_cutout.png", "photo_overlay.png"]
    assert [read_pixels(p).shape for p in paths] == [(400, 300), (400, 300, 4), (400, 300, 3)]
    mask = read_pixels(paths[0])
    values = set(np.unique(mask))
    assert values == {0, 255} if model.spec.task == "portrait" else values <= set(range(19))
    if model.spec.task == "portrait":
        assert mask[90:170, 145:175].mean() > 250 and mask[:60, 230:].mean() < 5, "face and free background"


def test_a_product_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("in the way")
    prediction = prediction_from_logits(noise(1)[:1], (6, 8), PORTRAIT)
    with pytest.raises(OutputError, match="--out DIR"):
        write_prediction(prediction, np.zeros((6, 8, 3), np.uint8), "a", tmp_path / "out", PORTRAIT)


@pytest.mark.parametrize(("labels", "channels"), [(PORTRAIT, 1), (PORTRAIT, 2), (CITYSCAPES, 20)])
def test_a_mask_alone_is_the_prediction_s(labels: Labels, channels: int) -> None:
    photo = read_photo(sample_photo())[:200, :301]
    logits, preprocess = noise(channels)[:1], MODELS["sinet"].weights[0].preprocess
    args = (lambda x: logits, photo, (6, 8), preprocess, labels)
    assert np.array_equal(mask_of_photo(*args), predict_photo(*args).mask)
