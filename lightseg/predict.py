"""From a network's logits to the pictures a user wants, at the photo's own resolution. NumPy and Pillow only.

Everything here takes a `Run`, so it is the same for PyTorch, ONNX, TFLite and whatever comes next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightseg.errors import BadInput
from lightseg.images import Photo, Resampling, Size, bilinear, to_input, write_png
from lightseg.spec import Labels, Preprocess

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Run = Callable[[Floats], Floats]
"""N×3×H×W preprocessed images in, N×C×h×w logits out."""

FOREGROUND = frozenset({"person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"})
"""What a cut-out keeps: the person of a portrait; of a street what Cityscapes counts as single things."""
TINT = 0.5
"""Share of the class colour in an overlay."""
EDGE = 1.0
"""Log-odds beyond which a cut-out is fully opaque or fully clear: the margin of the hinge loss, to which networks
trained with it (ExtremeC3Net) push their logits and no further; their probabilities alone would leave a haze."""
STRIP = 1 << 22
"""Values worked on at once while upsampling, so that 19 classes of a large photo fit in memory."""


@dataclass(frozen=True)
class Prediction:
    """What a network says about one photo, H×W of that photo."""

    mask: Bytes
    """Class index."""
    probability: Floats
    """Of the class in ``mask``, 0…1."""
    alpha: Floats
    """Opacity of a cut-out, 0…1: the log-odds of all `FOREGROUND` classes together, from −`EDGE` to `EDGE`."""


def class_logits(logits: Floats, labels: Labels) -> Floats:
    """One channel per class, N×K×h×w, so that argmax and softmax over axis 1 are right for every network.

    A single channel is the logit of class 1 and gets a zero for class 0 beside it (the softmax of both is the sigmoid
    of the one); channels beyond the labels serve training only and are dropped.

    Errors: `BadInput` for another number of channels, NaN or infinity.
    """
    classes = len(labels.names)
    single = classes == 2 and logits.ndim == 4 and logits.shape[1] == 1
    if logits.ndim != 4 or (logits.shape[1] < classes and not single):
        raise BadInput(f"logits of shape {list(logits.shape)} do not fit {classes} classes; check the labels")
    if not np.isfinite(logits).all():
        raise BadInput("the network answers NaN or infinity; export it again with --precision fp32")
    return np.concatenate([np.zeros_like(logits), logits], 1) if single else logits[:, :classes]


def mask_from_logits(logits: Floats, labels: Labels) -> Bytes:
    """Class index, N×h×w at the logits' resolution; on a tie the lower index."""
    return np.asarray(class_logits(logits, labels).argmax(1), np.uint8)


def probability_from_logits(logits: Floats, labels: Labels) -> Floats:
    """Probability of every class, N×K×h×w, summing to one over the classes."""
    return _softmax(class_logits(logits, labels))


def _softmax(logits: Floats) -> Floats:
    """Over axis 1."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True), np.float32)


def prediction_from_logits(logits: Floats, size: Size, labels: Labels) -> Prediction:
    """One image's logits (1×C×h×w) read at ``size``: logits are interpolated first, so that edges come out smooth."""
    planes = class_logits(logits, labels)[0]
    kept = np.array([name in FOREGROUND for name in labels.names])
    mask, probability, alpha = np.empty(size, np.uint8), np.empty(size, np.float32), np.empty(size, np.float32)
    for rows in _strips(size, len(planes)):
        strip = bilinear(planes, size, rows)
        shares = _softmax(strip[None])[0]
        mask[rows] = strip.argmax(0)
        probability[rows] = shares.max(0)
        alpha[rows] = _opacity(shares[kept].sum(0))
    return Prediction(mask, probability, alpha)


def _opacity(probability: Floats) -> Floats:
    """0 up to log-odds of −`EDGE`, 1 from `EDGE`, straight between."""
    with np.errstate(divide="ignore"):  # a probability of 1 has infinite log-odds, which clip well
        odds = np.log(probability) - np.log1p(-np.minimum(probability, 1))
    return np.asarray(((odds + EDGE) / (2 * EDGE)).clip(0, 1), np.float32)


def _strips(size: Size, planes: int) -> Iterator[slice]:
    step = max(1, STRIP // (planes * size[1]))
    return (slice(start, start + step) for start in range(0, size[0], step))


def predict_photo(
    run: Run, photo: Photo, size: Size, preprocess: Preprocess, labels: Labels, resampling: Resampling = "smooth"
) -> Prediction:
    """Squeeze ``photo`` to the network's ``size``, run, and read the answer at the photo's resolution."""
    logits = run(to_input(photo, size, preprocess, resampling))
    return prediction_from_logits(logits, (photo.shape[0], photo.shape[1]), labels)


def mask_of_photo(
    run: Run, photo: Photo, size: Size, preprocess: Preprocess, labels: Labels, resampling: Resampling = "smooth"
) -> Bytes:
    """The mask of `predict_photo` without what a cut-out needs besides."""
    planes = class_logits(run(to_input(photo, size, preprocess, resampling)), labels)[0]
    full = (photo.shape[0], photo.shape[1])
    mask = np.empty(full, np.uint8)
    for rows in _strips(full, len(planes)):
        mask[rows] = bilinear(planes, full, rows).argmax(0)
    return mask


def mask_image(prediction: Prediction, labels: Labels) -> Bytes:
    """H×W: 0 and 255 for two classes, the class index for more."""
    if len(labels.names) > 2:
        return prediction.mask
    return np.asarray(np.where(prediction.mask > 0, 255, 0), np.uint8)


def cutout_image(prediction: Prediction, photo: Photo) -> Bytes:
    """H×W×4: the photo, opaque where the foreground is certain and soft at its edges."""
    opacity = np.rint(prediction.alpha * 255).astype(np.uint8)
    return np.dstack([photo, opacity])


def overlay_image(prediction: Prediction, photo: Photo, labels: Labels) -> Bytes:
    """H×W×3: the photo under the class colours; of two classes only the second is painted, with soft edges."""
    colours = np.array(labels.colours, np.float32)
    if len(labels.names) == 2:
        paint, share = colours[1], TINT * prediction.alpha[:, :, None]
    else:
        paint, share = colours[prediction.mask], np.array(TINT, np.float32)
    return np.asarray(np.rint(photo + (paint - photo) * share), np.uint8)


def write_prediction(prediction: Prediction, photo: Photo, stem: str, out_dir: Path, labels: Labels) -> list[Path]:
    """Write ``<stem>_mask.png``, ``<stem>_cutout.png`` and ``<stem>_overlay.png``, each atomically.

    Errors: `OutputError`.
    """
    products = {
        "mask": mask_image(prediction, labels),
        "cutout": cutout_image(prediction, photo),
        "overlay": overlay_image(prediction, photo, labels),
    }
    return [write_png(out_dir / f"{stem}_{name}.png", pixels) for name, pixels in products.items()]
