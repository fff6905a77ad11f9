"""The part of a file between one value and the known values it is computed from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]
IMAGE = "image"
"""The input's name, in every file and in the graph."""


class Inside(Protocol):
    """A file whose values can be read and set. All arrays are N×C×H×W, the image as a runner takes it."""

    runs: str
    """What computes the values, and what that leaves out of the file's usual way of running."""

    def values(self, x: Array) -> dict[str, Array]:
        """Every value the file and the graph share, for the image ``x``, by node."""

    def reads(self, node: str) -> tuple[str, ...]:
        """The nearest shared values from which ``node`` is computed in the file."""

    def alone(self, node: str, given: Mapping[str, Array]) -> Array:
        """``node`` computed from the values of `reads`, by the same runtime."""

    def second_opinion(self, node: str, given: Mapping[str, Array]) -> tuple[str, Array] | None:
        """The same by other kernels of the runtime, with their name; None where there are none."""

    def save(self, node: str, folder: Path) -> str:
        """Write what `alone` runs into ``folder``; return lines of Python that define ``run(inputs)``."""


@dataclass(frozen=True)
class Part:
    """Steps by position in the file, in its order, and the values they start from."""

    steps: tuple[int, ...]
    inputs: tuple[str, ...]


def part_before(value: str, makes: Sequence[str], reads: Sequence[Collection[str]], known: Collection[str]) -> Part:
    """What computes ``value``; step i makes the value ``makes[i]`` from ``reads[i]``, constants left out."""
    maker: Mapping[str, int] = {name: i for i, name in enumerate(makes)}
    steps: set[int] = set()
    inputs: dict[str, None] = {}
    waiting = [value]
    while waiting:
        name = waiting.pop()
        if name != value and (name in known or name not in maker):
            inputs[name] = None
        elif maker[name] not in steps:
            steps.add(maker[name])
            waiting += reversed(list(reads[maker[name]]))
    return Part(tuple(sorted(steps)), tuple(inputs))
