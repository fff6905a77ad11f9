"""Which convolutions stay in float: as little arithmetic as the measured loss allows."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from lightseg.errors import ParityError
from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_nodes, op_of
from lightseg.export.graph.quantised import FakeQuantise, QuantisedConv
from lightseg.export.graph.shapes import Shape, shapes
from lightseg.export.quantization.quantise import Grids, convolutions, quantise, with_feeders
from lightseg.export.quantization.scheme import Scheme

Loss = Callable[[fx.GraphModule], float]
"""Points a float32 graph loses."""

RANKED = 2**15
"""Pixels of the images the harm is measured on: larger ones are thinned out, as only an order is asked."""
MEANINGFUL = 0.1
"""Of the multiply-accumulates, how many a file called int8 computes in eight bits at least."""


def macs(graph: fx.GraphModule, input_shape: Shape) -> dict[str, int]:
    """Multiply-accumulates of every convolution that can be int8, by name."""
    known = shapes(graph, input_shape)
    return {n.name: _macs(graph, n, known[n]) for n in graph.graph.nodes if type(op_of(graph, n)) is ops.Conv}


def _macs(graph: fx.GraphModule, node: fx.Node, shape: Shape) -> int:
    n, c, h, w = shape
    conv = op_of(graph, node)
    assert isinstance(conv, ops.Conv)
    return n * c * h * w * conv.weight[0].numel()


def harms(
    graph: fx.GraphModule, grids: Grids, scheme: Scheme, images: Sequence[Tensor], floats: Collection[str] = ()
) -> dict[str, float]:
    """Per convolution but for ``floats``: the squared error the logits get when it alone is int8."""
    harm = {name: 0.0 for name in convolutions(graph) if name not in floats}
    single, behind = copy.deepcopy(graph).float(), _behind(graph)
    nodes = {node.name: node for node in single.graph.nodes}
    images = _affordable(graph, images)
    with torch.inference_mode():
        for image in images:
            whole = fx.Interpreter(single, garbage_collect_values=False)
            exact = whole.run(image)
            for name in harm:
                known = {n: v for n, v in whole.env.items() if n.name not in behind[name]}
                known[nodes[name]] = _alone(graph, nodes[name], grids, scheme, known)
                answer = fx.Interpreter(single).run(image, initial_env=known)
                harm[name] += float(((answer - exact) ** 2).mean()) / len(images)
    return harm


def _behind(graph: fx.GraphModule) -> dict[str, set[str]]:
    """By node: the names of all whose values hang on it, its own among them."""
    found: dict[str, set[str]] = {}
    for node in reversed(graph.graph.nodes):
        found[node.name] = {node.name}.union(*(found[user.name] for user in node.users))
    return found


def _alone(graph: fx.GraphModule, node: fx.Node, grids: Grids, scheme: Scheme, known: dict[fx.Node, Tensor]) -> Tensor:
    """What the convolution ``node`` returns in int8, from the float values ``known``."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    conv = graph.get_submodule(str(node.target))
    assert isinstance(conv, ops.Conv)
    read = copy.deepcopy(grids[source.name])
    value = QuantisedConv(conv, read.scale).float()(read.float()(known[source]))
    if scheme.outputs:
        after: FakeQuantise = copy.deepcopy(grids[node.name])
        value = after.float()(value)
    result: Tensor = value
    return result


def _affordable(graph: fx.GraphModule, images: Sequence[Tensor]) -> Sequence[Tensor]:
    """``images`` thinned out; one of them whole where ``graph`` has columns as channels, which ties it to its width."""
    thinned = [_thinned(image) for image in images]
    if any(isinstance(op, ops.ColumnsToChannels) for _, op in op_nodes(graph)):
        return images if thinned[0].shape == images[0].shape else images[:1]
    return thinned


def _thinned(image: Tensor) -> Tensor:
    """Every second row and column until at most `RANKED` pixels are left, while what is left divides by 128 (SINet)."""
    channels_last = image.dtype == torch.uint8
    height, width = image.shape[1:3] if channels_last else image.shape[2:]
    if height * width <= RANKED or height % 256 or width % 256:
        return image
    return _thinned(image[:, ::2, ::2] if channels_last else image[:, :, ::2, ::2])


def by_harm(
    graph: fx.GraphModule, grids: Grids, scheme: Scheme, images: Sequence[Tensor], floats: Collection[str] = ()
) -> list[str]:
    """Convolutions but for ``floats`` by the harm each does alone, per multiply-accumulate, the worst first."""
    harm, work = harms(graph, grids, scheme, images, floats), macs(graph, tuple(images[0].shape))
    return sorted(harm, key=lambda name: -harm[name] / work[name])


@dataclass(frozen=True)
class Mix:
    """A choice of convolutions that stay in float, and what it was seen to lose."""

    floats: tuple[str, ...]
    loss: float
    share: float
    """Of the multiply-accumulates in convolutions, those in eight bits."""
    fits: bool = False
    """Within what it may lose, and sound."""


@dataclass(frozen=True)
class Search:
    """``whole`` is all in int8, ``found`` the mix that keeps the loss (the network in float where none does), and
    ``least`` the one with the least of int8 that still deserves the name, where ``found`` does not."""

    whole: Mix
    found: Mix
    least: Mix | None = None

    def check(self, limit: float, margin: float) -> None:
        """Errors: `ParityError` where too little is left in int8: what all of it loses, and which mix would do."""
        if self.found.share and not self.least:
            return
        kept = (
            f"with only {100 * self.found.share:.1f} % of the multiply-accumulates in eight bits the loss is"
            if self.found.share
            else "not one int8 convolution keeps the loss"
        )
        mix = ""
        if self.least and math.isfinite(self.least.loss):
            drop = math.ceil(10 * self.least.loss / margin) / 10
            mix = f"; {100 * self.least.share:.0f} % in eight bits lose {self.least.loss:.1f}: --max-drop {drop:g}"
        raise ParityError(
            f"{kept} within {limit:g} {'point' if limit == 1 else 'points'} on the choosing photographs ({margin:g} of "
            f"that; int8 throughout loses {self.whole.loss:.1f}){mix}, or --precision fp32"
        )


def fewest_floats(
    graph: fx.GraphModule,
    grids: Grids,
    scheme: Scheme,
    images: Sequence[Tensor],
    loss: Loss,
    limit: float,
    floats: Sequence[str] = (),
    sound: Callable[[fx.GraphModule], bool] = lambda graph: True,
) -> Search:
    """The shortest head of the list of `by_harm`, behind ``floats``, that leaves the measured ``loss`` within
    ``limit``, by bisection; a mix that is not ``sound`` does not count.

    None of it where the rest in int8 is good enough; all of it where nothing is.
    """
    work = macs(graph, tuple(images[0].shape))

    def left(count: int) -> tuple[str, ...]:
        kept = (*floats, *order[:count])
        return with_feeders(graph, kept) if scheme.outputs and not scheme.price else kept

    def share(count: int) -> float:
        return 1 - sum(work[name] for name in left(count)) / sum(work.values())

    def mix(count: int) -> Mix:
        kept = left(count)
        candidate = quantise(graph, grids, scheme, kept).float()
        lost = loss(candidate)
        return Mix(kept, lost, share(count), lost <= limit and sound(candidate))

    order = [name for name in convolutions(graph) if name not in floats]
    whole = mix(0)
    if whole.fits:
        return Search(whole, whole)
    order = by_harm(graph, grids, scheme, images, floats)
    low, high, found = 0, len(order), Mix((*floats, *order), 0.0, 0.0)
    while high - low > 1:
        middle = (low + high) // 2
        tried = mix(middle)
        low, high, found = (low, middle, tried) if tried.fits else (middle, high, found)
    if found.share >= MEANINGFUL or whole.share < MEANINGFUL:
        return Search(whole, found)
    return Search(whole, found, mix(max(count for count in range(len(order)) if share(count) >= MEANINGFUL)))
