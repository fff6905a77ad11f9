"""What turns a rewritten float graph into the int8 graph of a file: small enough to travel in the file's record."""

from __future__ import annotations

import base64
import copy
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from lightseg.errors import BadInput, Unsupported
from lightseg.export.graph.quantised import FakeQuantise
from lightseg.export.graph.shapes import Shape, shapes
from lightseg.export.quantization.equalise import channel_scales, rescale, tied
from lightseg.export.quantization.quantise import quantise, values_to_watch
from lightseg.export.quantization.ranges import grids, watch
from lightseg.export.quantization.scheme import Scheme

JUDGED = 8
"""Photographs on which two ways to even out the channels are compared."""


@dataclass(frozen=True)
class Recipe:
    """Channel scales, one grid per value, and the layers that stay in float."""

    exponents: tuple[int, ...]
    """Of the powers of two that every class of tied channels is scaled by, in the order of `equalise.tied`."""
    grids: Mapping[str, tuple[float, int]]
    """Scale and zero point by the name of the value."""
    floats: tuple[str, ...] = ()

    def even(self, graph: fx.GraphModule, input_shape: Shape) -> fx.GraphModule:
        """``graph`` with its channels scaled, in float. Errors: `Unsupported` where it is another graph."""
        changed, known = copy.deepcopy(graph), widths(graph, input_shape)
        if len(self.exponents) != len(tied(changed, known).parent):
            raise Unsupported("the int8 grids belong to a graph this version does not make; export the file again")
        rescale(changed, known, torch.exp2(torch.tensor(self.exponents, dtype=torch.float64)))
        return changed

    def apply(self, graph: fx.GraphModule, input_shape: Shape, scheme: Scheme) -> fx.GraphModule:
        """The int8 graph of the float ``graph``, which stays as it is. Errors: those of `even`."""
        return self.quantise(self.even(graph, input_shape), scheme)

    def quantise(self, even: fx.GraphModule, scheme: Scheme) -> fx.GraphModule:
        """The int8 graph of one whose channels are scaled. Errors: `Unsupported` where a value has no grid."""
        wanted = {v for v in values_to_watch(even, scheme) if v in self.grids}
        try:
            return quantise(even, {name: self.grid(name, scheme) for name in wanted}, scheme, self.floats)
        except KeyError as error:
            raise Unsupported(f"the record has no int8 grid for {error}; export the file again") from error

    def grid(self, name: str, scheme: Scheme) -> FakeQuantise:
        scale, zero_point = self.grids[name]
        return FakeQuantise(scale, zero_point, scheme.lowest, scheme.highest)

    def to_text(self) -> str:
        """Base64 of compressed JSON."""
        plain = {"exponents": self.exponents, "grids": self.grids, "floats": self.floats}
        return base64.b64encode(zlib.compress(json.dumps(plain).encode(), 9)).decode()

    @classmethod
    def from_text(cls, text: str) -> Recipe:
        """Errors: `BadInput` where ``text`` is none of `to_text`."""
        try:
            plain: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(text, validate=True)))
            known = {name: (float(scale), int(zero)) for name, (scale, zero) in plain["grids"].items()}
            return cls(tuple(map(int, plain["exponents"])), known, tuple(plain["floats"]))
        except (ValueError, zlib.error, KeyError, TypeError, AttributeError) as error:
            raise BadInput("the record's int8 grids are damaged; export the file again") from error


def recipe_for(graph: fx.GraphModule, images: Sequence[Tensor], scheme: Scheme) -> tuple[fx.GraphModule, Recipe]:
    """``graph`` with its channels evened out, as the photographs ask for, and a grid for every value on the way.

    Evened out by the channels' peaks and by their reach; of the two what brings the int8 logits nearer to float's.
    """
    seen = watch(copy.deepcopy(graph).float(), images)
    made = [
        _by(channel_scales(graph, seen, scheme.outputs, by_reach), graph, images, scheme) for by_reach in (False, True)
    ]
    exact = copy.deepcopy(graph).float()

    def error(candidate: tuple[fx.GraphModule, Recipe]) -> float:
        even, recipe = candidate
        int8 = recipe.quantise(even, scheme).float()
        with torch.inference_mode():
            return sum(float((int8(x) - exact(x)).square().mean()) for x in images[:JUDGED])

    return min(made, key=error)


def _by(
    scale: Tensor, graph: fx.GraphModule, images: Sequence[Tensor], scheme: Scheme
) -> tuple[fx.GraphModule, Recipe]:
    even = copy.deepcopy(graph)
    rescale(even, widths(graph, tuple(images[0].shape)), scale)
    found = grids(watch(copy.deepcopy(even).float(), images), values_to_watch(even, scheme), scheme)
    exponents = tuple(int(e) for e in torch.log2(scale).tolist())
    return even, Recipe(exponents, {name: (float(g.scale), g.zero_point) for name, g in found.items()})


def widths(graph: fx.GraphModule, input_shape: Shape) -> dict[str, int]:
    """Channels of every value that is a map of numbers, by node: an image of bytes is none."""
    known = shapes(graph, input_shape)
    return {n.name: s[1] for n, s in known.items() if not (n.op == "placeholder" and s[1] != 3)}
