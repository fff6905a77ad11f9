"""What a target is: a record of functions, and the plan they work from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightseg.errors import MissingExtra
from lightseg.export.quantization.scheme import Scheme
from lightseg.export.runner import Runner

if TYPE_CHECKING:
    from torch import fx

    from lightseg.export.rewrites import Rewrite


@dataclass(frozen=True)
class Plan:
    """One conversion: the graph as the target wants it, in float64, and the contract of the file."""

    graph: fx.GraphModule
    precision: str
    input_shape: tuple[int, ...]
    """N×3×H×W."""
    output_shape: tuple[int, ...]
    output: str
    baked: bool
    dynamic: bool
    multiple: int
    capabilities: tuple[str, ...] = ()
    """What devices the file is made for: compute capabilities to compile engines for, Core ML's deployment target."""

    @property
    def file_input_shape(self) -> tuple[int, ...]:
        """The shape of the graph's input: N×H×W×3 where it takes images."""
        n, c, h, w = self.input_shape
        return (n, h, w, c) if self.baked else (n, c, h, w)


@dataclass(frozen=True)
class Runtime:
    """Another runtime for a target's files, independent of the one that proves them."""

    load: Callable[[Path, int], Runner]
    needs: tuple[str, ...]
    extra: str


@dataclass(frozen=True)
class Target:
    """A deployable format. ``convert`` and ``load`` each state the modules they need."""

    name: str
    suffix: str
    extra: str
    precisions: tuple[str, ...]
    dynamic: bool
    """Whether batch and image size may stay open."""
    layout: str
    """Layout of float inputs and of outputs in the file."""
    rewrites: Callable[[], tuple[Rewrite, ...]]
    convert: Callable[[Plan, Path], None]
    convert_needs: tuple[str, ...]
    load: Callable[[Path, int], Runner]
    load_needs: tuple[str, ...]
    stamp: Callable[[Path, str], None]
    """Store the artifact's record inside the file."""
    read_record: Callable[[Path], str | None]
    folder: bool = False
    """Whether an artifact is a folder and not a file."""
    image_input: str = "NHWC uint8 RGB"
    """What the file takes where the preprocessing is inside it."""
    mask_element: str = "uint8"
    """Element type of masks in the file."""
    second_opinions: Mapping[str, Runtime] = field(default_factory=dict)
    """Other runtimes of the format, by the name they are asked for."""
    facts: Callable[[Path], dict[str, Any]] = lambda path: {}
    """What writing the artifact has shown, for its record."""
    int8: Scheme | None = None
    """What its int8 kernels take; None where it has none."""
    capabilities: tuple[str, ...] = ()
    """What it is made for unless told otherwise (`Plan.capabilities`); empty where one file serves every device."""

    def why_not_convert(self) -> str | None:
        """The reason this machine cannot write the format; None when it can."""
        return self._missing(self.convert_needs, "writing")

    def why_not_load(self) -> str | None:
        """The reason this machine cannot run the format; None when it can."""
        return self._missing(self.load_needs, "running")

    def _missing(self, needs: tuple[str, ...], doing: str) -> str | None:
        absent = [m for m in needs if find_spec(m) is None]
        return str(MissingExtra(f"{doing} {self.name}", self.extra, absent[0])) if absent else None

    def require(self, needs: tuple[str, ...], doing: str) -> None:
        """Raise `MissingExtra` for the first module that is not installed."""
        for module in needs:
            if find_spec(module) is None:
                raise MissingExtra(f"{doing} {self.name}", self.extra, module)
