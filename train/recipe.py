"""Recipes: one flat YAML per training run, complete, without inheritance."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lightseg.errors import BadInput, UnknownName
from lightseg.files import atomic_path

FOLDER = Path(__file__).parent / "recipes"

Layout = Literal["pairs", "eg1800", "cityscapes", "camvid"]
Optimiser = Literal["adam", "adamw", "sgd"]
Schedule = Literal["cosine", "halve", "poly"]
Augmentation = Literal["none", "portrait", "portrait_published", "border_crop", "scale_crop"]
ClassLoss = Literal["cross_entropy", "lovasz"]

ZOOM = (0.8, 1.45)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what comes out of a training run, apart from the data's place."""

    # what
    model: str
    init: str = "random"
    """A weights tag of the model, a weights file, or ``random``."""
    revive: bool = False
    """Bring dead channels of ``init`` back before training, see `lightseg.train.revive`."""
    seed: int = 0

    # data
    layout: Layout = "pairs"
    train_folder: str = "portrait_train"
    """Below ``--data``; several folders joined by ``+`` are used together."""
    val_folder: str = "portrait_val"
    holdout: float = 0.0
    """Share of the training pairs kept out of training, to choose with instead of the validation set."""
    normalise: Literal["weights", "data"] = "weights"
    """Feed the network as ``init`` wants it, or by the mean and deviation of the training pixels."""
    cache: bool = True
    """Keep the decoded images in memory."""
    cache_size: int = 0
    """Longer side, in pixels, images are reduced to when they are read; 0 keeps them as they are."""
    height: int = 224
    width: int = 224
    scales: tuple[float, ...] = (1.0,)
    """Passes per epoch, each at height and width times this (rounded to the model's multiple)."""
    workers: int = 0

    # augmentation
    augment: Augmentation = "portrait"
    zoom: tuple[float, ...] = ZOOM
    """For ``portrait``: the smallest and the largest scale."""
    settle: float = 0.0
    """The last share of the epochs sees images as the evaluation does: flip and mild colour only."""

    # loss
    loss: ClassLoss = "cross_entropy"
    edge_weight: float = 0.5
    edge_width: int = 15
    iou_weight: float = 0.0
    """Weight of 1 − the soft per-image IoU of the foreground."""
    class_weights: bool = False
    """Weight classes by 1 / ln(1.10 + share of the pixels)."""
    aux_weight: float = 0.0
    teachers: tuple[str, ...] = ()
    """Two-class models whose mean answer, mirror images included, is learned beside the labels: NAME.TAG, NAME=WEIGHTS
    FILE, or a .tflite file that turns an RGB image in 0…1 into the probability of a person, as MediaPipe's do."""
    teacher_scales: tuple[float, ...] = (1.0,)
    """Sizes the teachers see an image at, as shares of height and width."""
    teacher_weight: float = 0.0

    # stage one: the coarse head alone, at the encoder's resolution; its best weights start the whole network
    encoder_epochs: int = 0
    encoder_batch: int = 0
    """0 takes ``batch``."""
    encoder_edge_width: int = 5

    # optimisation
    epochs: int = 10
    batch: int = 24
    optimiser: Optimiser = "adamw"
    lr: float = 5e-4
    schedule: Schedule = "cosine"
    warmup_steps: int = 100
    warmup_share: float = 0.0
    """For ``poly``: share of the epochs spent warming up."""
    momentum: float = 0.9
    decay_dense: float = 0.0
    decay_depthwise: float = 0.0
    decay_other: float = 0.0
    clip: float = 0.0
    """Gradient norm; 0 does not clip."""
    ema: float = 0.0
    """Decay of the exponential moving average of the weights; 0 keeps none."""
    max_slope: float = 0.0
    """PReLU slopes are kept within ± this; 0 leaves them free."""
    keep: Literal["last", "best"] = "last"
    """The weights to hand over: those of the last epoch, or of the best on the validation (held-out) pairs."""
    validate_every: int = 1
    """Epochs between validations."""

    # machine
    checkpoint_steps: int = 0
    """Steps between checkpoints inside an epoch; 0 writes one per epoch."""
    amp: bool = False
    """bfloat16 autocast."""
    compile: bool = False
    channels_last: bool = True


def load(name: str, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe called ``name`` (or in the YAML file ``name``), with ``key=value`` overrides.

    Errors: `UnknownName` for a recipe or key that does not exist, `BadInput` for a value of the wrong type.
    """
    import yaml

    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise UnknownName("recipe", name, available())
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise BadInput(f"{path} is no YAML ({' '.join(str(error).split())}); correct it and run again") from error
    if not isinstance(data, dict):
        raise BadInput(f"{path} must hold `key: value` lines; see the recipes in {FOLDER}")
    for override in overrides:
        key, sign, text = override.partition("=")
        if not sign:
            raise BadInput(f"{override!r} is not key=value; for instance epochs=3")
        try:
            data[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise BadInput(f"{override!r}: {text!r} is no YAML value; write lists as scales=[1,0.5]") from error
    return build(data)


def available() -> list[str]:
    return sorted(p.stem for p in FOLDER.glob("*.yaml"))


def build(data: Mapping[str, Any]) -> Recipe:
    """A recipe from plain values; unknown keys are refused, values brought to the declared types."""
    hints = typing.get_type_hints(Recipe)
    for key in data:
        if key not in hints:
            raise UnknownName("recipe key", str(key), hints)
    if "model" not in data:
        raise BadInput("the recipe names no model; add for instance `model: sinet`")
    recipe = Recipe(**{k: coerce(k, v, hints[k]) for k, v in data.items()})
    check_ranges(recipe)
    if len(recipe.zoom) != 2 or recipe.zoom[0] > recipe.zoom[1]:
        raise BadInput(
            f"recipe key zoom: {list(recipe.zoom)} is no smallest and largest scale, for instance [0.8,1.45]"
        )
    if bool(recipe.teachers) != bool(recipe.teacher_weight):
        raise BadInput("teachers and teacher_weight belong together: say teachers=sinet.lightseg teacher_weight=1")
    return recipe


ABOVE_ZERO = (
    "height", "width", "scales", "zoom", "teacher_scales", "epochs", "batch", "lr", "edge_width", "validate_every"
)  # fmt: skip
BELOW_ONE = ("holdout", "warmup_share", "momentum", "ema")


def check_ranges(recipe: Recipe) -> None:
    """Refuse numbers no run could use: negative ones anywhere, zeros and ones where they make no sense."""
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        values = value if isinstance(value, tuple) else (value,)
        numbers = [v for v in values if isinstance(v, (int, float))]
        positive = field.name in ABOVE_ZERO
        if positive and not values:
            raise BadInput(f"recipe key {field.name} is empty; it needs a number at least, for instance 1")
        for number in numbers:
            if not math.isfinite(number) or number < 0 or (positive and number == 0):
                raise BadInput(
                    f"recipe key {field.name}: {number:g} is not {'above zero' if positive else 'zero or more'}"
                )
            if field.name in BELOW_ONE and number >= 1:
                raise BadInput(f"recipe key {field.name}: {number:g} is a share, from 0 to below 1")


def coerce(key: str, value: Any, kind: Any) -> Any:
    """``value`` as ``kind`` where nothing is lost (1 → 1.0, "5e-4" → 0.0005), else `BadInput`."""
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if value not in options:
            raise UnknownName(f"value for {key}", str(value), [str(o) for o in options])
        return value
    if origin is tuple:
        values = value if isinstance(value, (list, tuple)) else [value]
        return tuple(coerce(key, v, options[0]) for v in values)
    try:
        if kind is bool and isinstance(value, bool):
            return value
        if kind is float and not isinstance(value, bool):
            return float(value)
        if kind is int and not isinstance(value, bool) and float(value) == int(value):
            return int(value)
        if kind is str and isinstance(value, (str, int, float)):
            return str(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise BadInput(f"recipe key {key}: {value!r} is no {kind.__name__}")


def save(recipe: Recipe, path: Path) -> None:
    """Write the resolved recipe, every key spelled out, so that the file alone repeats the run."""
    import yaml

    data = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(recipe).items()}
    with atomic_path(path) as temporary:
        temporary.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
