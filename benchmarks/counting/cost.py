"""What a network costs by counting, whichever format it was read from.

Conventions, the same for PyTorch, ONNX and TFLite:

* MACs: the multiply-accumulates of convolutions (plain, depthwise, grouped, transposed) and linear layers, including
  those that fall on zero padding. Norms, activations, pooling and resizing count none. FLOPs = 2 × MACs.
* params: trained elements operators read; a tied PyTorch parameter counts once, equal tensors that a file stores
  once count wherever they are read. Running statistics are buffers, not parameters; all-zero biases that a format
  demands are neither.
* peak activation bytes: the largest sum of live tensors when operators run one by one in file order, every operator
  writes a new buffer, a tensor lives from its writer to its last reader, and the network's input lives from the start.
  Views share their source's buffer.
* bytes moved: every operator reads its inputs and constants once and writes its outputs once; views move nothing.
  No cache and no fusion is assumed, so this is the traffic of unfused execution, not a lower bound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

Kind = Literal[
    "conv", "depthwise", "transposed conv", "linear", "norm", "activation", "elementwise", "resize", "pool", "concat",
    "layout", "view", "cast", "other",
]  # fmt: skip
Role = Literal["weight", "bias", "slope", "affine", "buffer", "zero bias", "constant"]

TRAINED: tuple[Role, ...] = ("weight", "bias", "slope", "affine")
CONVOLUTIONS: tuple[Kind, ...] = ("conv", "depthwise", "transposed conv")
MAC_KINDS: tuple[Kind, ...] = (*CONVOLUTIONS, "linear")


@dataclass(frozen=True)
class Constant:
    """A tensor stored with the network, and what the operator that reads it uses it for."""

    name: str
    role: Role
    elements: int
    bytes: int


@dataclass(frozen=True)
class Op:
    """One operator in a format-neutral form; ``inputs`` and ``outputs`` name activations, never constants."""

    name: str
    op: str
    """The format's own name of the operator."""
    kind: Kind
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: tuple[Constant, ...] = ()
    macs: int = 0
    taps: int = 1
    """Pixels that a convolution's window covers."""


@dataclass(frozen=True)
class Tensor:
    """Shape as the format stores it (NCHW or NHWC) and size of an activation."""

    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class LayerCost:
    """The exact cost of one operator."""

    name: str
    op: str
    kind: Kind
    shape: tuple[int, ...]
    """Of the first output, in the format's own layout."""
    params: int
    macs: int
    bytes_read: int
    bytes_written: int
    taps: int = 1
    """Pixels that a convolution's window covers."""

    @property
    def flops(self) -> int:
        """2 × MACs."""
        return 2 * self.macs


@dataclass(frozen=True)
class Cost:
    """The exact cost of a whole network, layer by layer; see the module's docstring for the conventions."""

    source: str
    """What was read: a model's name or a file."""
    layers: tuple[LayerCost, ...]
    elements: Mapping[Role, int]
    """Stored elements by what they are used for, each tensor once."""
    peak_activation_bytes: int
    folded: Mapping[Role, int]
    """``elements`` after every batch norm that directly follows a convolution is folded into it."""

    @property
    def params(self) -> int:
        return sum(self.elements[role] for role in TRAINED)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def flops(self) -> int:
        """2 × MACs."""
        return 2 * self.macs

    @property
    def bytes_moved(self) -> int:
        return sum(layer.bytes_read + layer.bytes_written for layer in self.layers)

    @property
    def ops(self) -> dict[str, int]:
        """How many operators of each kind, views apart."""
        return dict(sorted(Counter(layer.kind for layer in self.layers if layer.kind != "view").items()))

    @property
    def macs_by_kind(self) -> dict[str, int]:
        totals: Counter[str] = Counter()
        for layer in self.layers:
            totals[layer.kind] += layer.macs
        return {kind: totals[kind] for kind in MAC_KINDS if totals[kind]}

    def to_dict(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "params": self.params,
            "macs": self.macs,
            "flops": self.flops,
            "flops_convention": "2 x MACs of convolutions and linear layers",
            "peak_activation_bytes": self.peak_activation_bytes,
            "bytes_moved": self.bytes_moved,
            "ops": self.ops,
            "macs_by_kind": self.macs_by_kind,
            "elements": dict(self.elements),
            "layers": [{**vars(layer), "shape": list(layer.shape)} for layer in self.layers],
        }


def conv_macs(output: Sequence[int], kernel: Sequence[int], inputs_per_group: int) -> int:
    """MACs of a convolution from its output's shape, its kernel and the input channels each output channel reads."""
    return prod(output) * prod(kernel) * inputs_per_group


def transposed_conv_macs(data: Sequence[int], kernel: Sequence[int], outputs_per_group: int) -> int:
    """MACs of a transposed convolution: every input element is multiplied into kernel × output channels."""
    return prod(data) * prod(kernel) * outputs_per_group


def total(
    source: str, ops: Sequence[Op], tensors: Mapping[str, Tensor], given: Iterable[str], asked: Iterable[str]
) -> Cost:
    """Add up one walk over ``ops`` in execution order; ``given`` and ``asked`` are the network's inputs and outputs."""
    elements, layers = _empty(), []
    seen: set[str] = set()
    for op in ops:
        params = 0
        for constant in op.constants:
            if constant.name not in seen:
                seen.add(constant.name)
                elements[constant.role] += constant.elements
                params += constant.elements if constant.role in TRAINED else 0
        layers.append(_layer(op, params, tensors))
    peak = _peak(ops, tensors, tuple(given), tuple(asked))
    return Cost(source, tuple(layers), elements, peak, _fold(ops, elements))


def _empty() -> dict[Role, int]:
    return {"weight": 0, "bias": 0, "slope": 0, "affine": 0, "buffer": 0, "zero bias": 0, "constant": 0}


def _layer(op: Op, params: int, tensors: Mapping[str, Tensor]) -> LayerCost:
    moves = op.kind != "view"
    read = sum(tensors[name].bytes for name in op.inputs) + sum(c.bytes for c in op.constants)
    written = sum(tensors[name].bytes for name in op.outputs)
    shape = tensors[op.outputs[0]].shape
    return LayerCost(op.name, op.op, op.kind, shape, params, op.macs, read * moves, written * moves, op.taps)


def _peak(ops: Sequence[Op], tensors: Mapping[str, Tensor], given: tuple[str, ...], asked: tuple[str, ...]) -> int:
    owner = {name: name for name in given}
    for op in ops:
        for name in op.outputs:
            owner[name] = owner[op.inputs[0]] if op.kind == "view" and op.inputs else name
    last = {owner[name]: -1 for name in given}
    for step, op in enumerate(ops):
        last.update((owner[name], step) for name in (*op.inputs, *op.outputs))
    last.update((owner[name], len(ops)) for name in asked)
    live = peak = sum(tensors[name].bytes for name in given)
    for step, op in enumerate(ops):
        live += sum(tensors[name].bytes for name in op.outputs if owner[name] == name)
        peak = max(peak, live)
        ending = {owner[name] for name in (*op.inputs, *op.outputs) if last[owner[name]] == step}
        live -= sum(tensors[name].bytes for name in ending)
    return peak


def _fold(ops: Sequence[Op], elements: Mapping[Role, int]) -> dict[Role, int]:
    """A norm of C channels behind a convolution nobody else reads: its 2·C elements become the convolution's bias."""
    writer = {name: op for op in ops for name in op.outputs}
    readers = Counter(name for op in ops for name in op.inputs)
    folded = dict(elements)
    for norm in (op for op in ops if op.kind == "norm"):
        conv = writer.get(norm.inputs[0])
        if conv is None or conv.kind not in MAC_KINDS or readers[norm.inputs[0]] > 1:
            continue
        affine = sum(c.elements for c in norm.constants if c.role == "affine")
        folded["affine"] -= affine
        folded["buffer"] -= sum(c.elements for c in norm.constants if c.role == "buffer")
        if not any(c.role == "bias" for c in conv.constants):
            folded["bias"] += affine // 2
    return folded


def differences(graph: Cost, file: Cost) -> tuple[str, ...]:
    """What ``file`` counts differently from the ``graph`` it was written from; empty: they agree.

    ``graph`` is a model, its batch norms then taken as folded where they directly follow a convolution, or a rewritten
    graph. MACs of every kind and the elements of weights must be equal. Biases too, but one that is zero everywhere
    cannot be told from the padding some formats want. Slopes and affines must be there up to the scales of one and
    shifts of zero that writers leave out.
    """
    found = []
    if graph.macs_by_kind != file.macs_by_kind:
        found.append(f"MACs {_kinds(file)} instead of {_kinds(graph)}")
    expected, counted = graph.folded, file.elements
    if counted["weight"] != expected["weight"]:
        found.append(f"weight elements {counted['weight']:,} instead of {expected['weight']:,}")
    if not counted["bias"] <= expected["bias"] <= counted["bias"] + counted["zero bias"]:
        found.append(f"bias elements {counted['bias']:,} instead of {expected['bias']:,}")
    channelwise, allowed = (side["slope"] + side["affine"] for side in (counted, expected))
    if not max(0, allowed - expected["affine"]) <= channelwise <= allowed:
        found.append(f"slope and affine elements {channelwise:,} instead of {allowed:,}")
    return tuple(found)


def _kinds(cost: Cost) -> str:
    return " + ".join(f"{macs:,} {kind}" for kind, macs in cost.macs_by_kind.items())
