"""The page's arithmetic beside the package's own: the same photograph must become the same input and the same mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lightseg.images import bilinear, read_photo, resize, sample_photo, to_input
from lightseg.predict import mask_of_photo, prediction_from_logits
from lightseg.spec import CITYSCAPES, PORTRAIT, RAW, Labels, Preprocess

ModuleCall = Callable[..., Any]
SINET = Preprocess("BGR", (107.304565, 115.69884, 132.35703), (62.26, 63.39, 66.47))
UNIT = Preprocess("RGB", (0.0, 0.0, 0.0), (255.0, 255.0, 255.0))
CLOSE = 2e-6
"""Share of the largest logit by which enlarged logits may differ: both add in single precision, in another order."""


LEVEL = 1
"""Of 255: Pillow rounds after each axis, and which one it takes first depends on its version and the sizes."""


def photograph(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Real pixels at any size, with noise so that no neighbours are equal."""
    photo = resize(read_photo(sample_photo()), (height, width))
    noise = np.random.default_rng(seed).integers(-20, 21, photo.shape)
    return np.clip(photo + noise, 0, 255).astype(np.uint8)


def rgba(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)]).reshape(-1)


def contract(
    size: tuple[int, int], preprocess: Preprocess, takes: str = "NCHW", dtype: str = "float32", classes: int = 2
) -> dict[str, Any]:
    feed = {"size": list(size), "takes": takes, "dtype": dtype, "gives": takes, "classes": classes}
    return {**feed, "preprocess": preprocess.to_dict()}


@pytest.mark.parametrize(
    ("have", "want"),
    [
        ((97, 131), (64, 64)),  # shrunk both ways, not by whole numbers
        ((480, 640), (224, 224)),
        ((30, 50), (64, 96)),  # enlarged
        ((224, 300), (224, 224)),  # one way only
        ((300, 224), (224, 224)),
        ((64, 64), (64, 64)),
        ((1, 7), (5, 3)),
        ((333, 3), (32, 64)),
    ],
)
def test_resizing_is_pillows(have: tuple[int, int], want: tuple[int, int], javascript: ModuleCall) -> None:
    photo = photograph(*have)
    got = javascript("pixels.mjs", "resize", rgba(photo), list(have), list(want)).reshape(*want, 3)
    np.testing.assert_allclose(got.astype(int), resize(photo, want), rtol=0, atol=LEVEL)
    one_axis = have[0] == want[0] or have[1] == want[1]
    if one_axis:  # no order to take them in
        np.testing.assert_array_equal(got, resize(photo, want))


@pytest.mark.parametrize("preprocess", [SINET, UNIT], ids=["BGR with mean and std", "RGB in 0…1"])
@pytest.mark.parametrize("takes", ["NCHW", "NHWC"])
def test_the_input_is_the_packages(preprocess: Preprocess, takes: str, javascript: ModuleCall) -> None:
    photo, size = photograph(97, 131), (48, 64)
    got = javascript("pixels.mjs", "toInput", rgba(photo), [97, 131], contract(size, preprocess, takes))
    want = to_input(photo, size, preprocess)
    assert got.dtype == np.float32
    shaped = got.reshape(1, 3, *size) if takes == "NCHW" else got.reshape(1, *size, 3).transpose(0, 3, 1, 2)
    np.testing.assert_array_max_ulp(shaped, want, maxulp=1)


def test_baked_preprocessing_gets_the_pixels(javascript: ModuleCall) -> None:
    photo, size = photograph(97, 131), (48, 64)
    got = javascript("pixels.mjs", "toInput", rgba(photo), [97, 131], contract(size, RAW, "NHWC", "uint8"))
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got.reshape(*size, 3), resize(photo, size))


def logits(channels: int, height: int = 21, width: int = 33, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 4, (1, channels, height, width)).astype(np.float32)


def answered(y: NDArray[np.float32], gives: str) -> dict[str, Any]:
    given = y if gives == "NCHW" else np.ascontiguousarray(y.transpose(0, 2, 3, 1))
    return {"values": given.reshape(-1), "shape": list(given.shape)}


@pytest.mark.parametrize("gives", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("channels", "labels"), [(2, PORTRAIT), (1, PORTRAIT), (20, CITYSCAPES)], ids=["two", "one", "training-only"]
)
def test_masks_are_the_packages(channels: int, labels: Labels, gives: str, javascript: ModuleCall) -> None:
    y, at = logits(channels), (57, 80)
    facts = contract((21, 33), RAW, gives, classes=len(labels.names))
    planes = javascript("pixels.mjs", "classPlanes", answered(y, gives), facts)
    mask = javascript("pixels.mjs", "maskAt", planes, list(at)).reshape(at)
    photo = np.zeros((*at, 3), np.uint8)
    want = mask_of_photo(lambda x: y, photo, (21, 33), RAW, labels)
    tied = near_ties(y, at, labels)
    np.testing.assert_array_equal(mask[~tied], want[~tied])
    assert tied.mean() < 1e-3


def near_ties(y: NDArray[np.float32], at: tuple[int, int], labels: Labels) -> NDArray[np.bool_]:
    """Pixels whose best two classes lie within what rounding may move."""
    from lightseg.predict import class_logits

    best = np.sort(bilinear(class_logits(y, labels)[0], at), axis=0)
    close: NDArray[np.bool_] = best[-1] - best[-2] <= 2 * CLOSE * np.abs(y).max()
    return close


@pytest.mark.parametrize(
    ("channels", "labels", "kept"),
    [(2, PORTRAIT, [1]), (20, CITYSCAPES, [11, 12, 13, 14, 15, 16, 17, 18])],
    ids=["portrait", "street"],
)
def test_cutouts_are_the_packages(channels: int, labels: Labels, kept: list[int], javascript: ModuleCall) -> None:
    y, at = logits(channels), (57, 80)
    planes = javascript(
        "pixels.mjs", "classPlanes", answered(y, "NCHW"), contract((21, 33), RAW, classes=len(labels.names))
    )
    got = javascript("pixels.mjs", "alphaAt", planes, list(at), kept).reshape(at)
    np.testing.assert_allclose(got, prediction_from_logits(y, at, labels).alpha, atol=1e-4)


def test_an_answer_that_is_no_number_is_refused(javascript: ModuleCall) -> None:
    y = logits(2)
    y[0, 1, 3, 4] = np.nan
    with pytest.raises(AssertionError, match="NaN or infinity"):
        javascript("pixels.mjs", "classPlanes", answered(y, "NCHW"), contract((21, 33), RAW))


def test_too_few_channels_are_refused(javascript: ModuleCall) -> None:
    with pytest.raises(AssertionError, match="3 channels does not fit 19 classes"):
        javascript("pixels.mjs", "classPlanes", answered(logits(3), "NCHW"), contract((21, 33), RAW, classes=19))
