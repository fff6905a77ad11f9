"""The facts about a network and its weights, as frozen data. Standard library only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn

Task = Literal["portrait", "street"]
ChannelOrder = Literal["RGB", "BGR"]


@dataclass(frozen=True)
class Preprocess:
    """How a uint8 photo becomes the network's input: ``x = (v - mean) / std`` per channel, v in 0…255.

    It belongs to the weights: two files for one architecture may want different values.
    ``mean`` and ``std`` are in pixel units and stand in ``order``.
    """

    order: ChannelOrder
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Preprocess:
        return cls(order=data["order"], mean=tuple(data["mean"]), std=tuple(data["std"]))


RAW = Preprocess("RGB", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""The pixel values as they are: what an artifact with preprocessing inside takes."""


@dataclass(frozen=True)
class Figure:
    """One reported number; ``source`` says who reported it and on what, ``note`` why ours may differ."""

    value: float
    unit: str
    source: str
    note: str = ""


@dataclass(frozen=True)
class Labels:
    """Class names and colours of the output, and how a class map is read from the logits.

    ``names[i]`` and ``colours[i]`` describe class i. Channels beyond ``len(names)`` are training-only and ignored.
    One-channel outputs are a logit for class 1: class = logit > 0.
    """

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Labels:
        return cls(names=tuple(data["names"]), colours=tuple(tuple(c) for c in data["colours"]))


@dataclass(frozen=True)
class Weights:
    """Trained parameters: where they lie, what they are, and how to feed them."""

    tag: str
    file: str
    """File name, in the package, in ``LIGHTSEG_WEIGHTS``, in the cache."""
    sha256: str
    licence: str
    origin: str
    """Who trained them on what."""
    preprocess: Preprocess
    url: str | None = None
    packaged: bool = False
    """True when the file travels inside the package."""
    figures: dict[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelSpec:
    """An architecture declared once."""

    name: str
    task: Task
    build: Callable[[], nn.Module]
    input_size: tuple[int, int]
    """Height, width the published figures hold for."""
    multiple: int
    """Height and width must be divisible by this."""
    output_stride: int
    """Input size over output size: 1, or 2 where the network answers at half resolution."""
    channels: int
    """Channels of the logits."""
    labels: Labels
    params: int
    """Trained parameters, counted (buffers apart)."""
    macs: int
    """Multiply-accumulates of all convolutions and linear layers for one image of ``input_size``, counted."""
    published: dict[str, Figure]
    upstream_names: tuple[tuple[str, str], ...]
    """Regular expressions that turn the authors' parameter names into ours, applied in order."""
    weights: tuple[Weights, ...]
    """The first entry is the default."""

    def check_size(self, height: int, width: int, how: str = "--input-size {}x{}") -> None:
        """Raise `BadInput` unless the network accepts this input size; ``how`` is what users type to set one."""
        from lightseg.errors import BadInput

        m = self.multiple
        if height % m or width % m or height < m or width < m:
            fits = how.format(*(max(m, round(v / m) * m) for v in (height, width)))
            raise BadInput(
                f"{self.name} cannot take {height}x{width}: height and width must be multiples of {m}; try {fits}"
            )


PORTRAIT = Labels(("background", "person"), ((0, 0, 0), (0, 220, 120)))

CITYSCAPES = Labels(
    (
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
        "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    ),
    (
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
        (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0),
        (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    ),
)  # fmt: skip
