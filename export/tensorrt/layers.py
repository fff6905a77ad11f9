"""What each kind of layer means, in PyTorch: one function per kind, after the library's documentation.

Only what our graphs become in the vendor's parser is here, and what other writers make of the same operations. An
attribute with a value no function knows is refused, never passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lightseg.errors import Unsupported
from lightseg.export.tensorrt.network import Step

DTYPES = {"BOOL": torch.bool, "INT8": torch.int8, "UINT8": torch.uint8, "INT32": torch.int32, "INT64": torch.int64}
"""Types of values that are not floating point."""
FLOATS = ("FLOAT", "HALF")


@dataclass(frozen=True)
class Call:
    """One layer with the values of its inputs; ``dtype`` is the type of the arithmetic."""

    step: Step
    x: tuple[Tensor, ...]
    dtype: torch.dtype

    def __getitem__(self, name: str) -> Any:
        return self.step.attributes[name]

    def refuse(self, why: str) -> Unsupported:
        return Unsupported(f"{self.step.what}: {why} is outside what the reference interpreter executes")

    def need(self, name: str, *known: Any) -> Any:
        """An attribute that must have one of the values ``known``."""
        if self[name] not in known:
            raise self.refuse(f"{name} {self[name]}")
        return self[name]

    def weights(self, name: str) -> Tensor | None:
        """An array of the layer itself; None where it is empty."""
        array = np.asarray(self[name])
        return torch.from_numpy(array.copy()).to(self.dtype) if array.size else None


Layer = Callable[[Call], Tensor | tuple[Tensor, ...]]


def _kernel(c: Call, shape: Sequence[int]) -> tuple[Tensor, Tensor | None]:
    """Weights and bias: of the layer, or, where they are quantised, values of the network."""
    if len(c.x) > 1:
        return c.x[1], c.x[2] if len(c.x) > 2 else c.weights("bias")
    kernel = c.weights("kernel")
    if kernel is None:
        raise c.refuse("a missing kernel")
    return kernel.reshape(*shape, *c["kernel_size_nd"]), c.weights("bias")


def _padded(c: Call) -> Tensor:
    """Zeros around the map; what is given before and after may differ."""
    c.need("padding_mode", "EXPLICIT_ROUND_DOWN")
    (top, left), (bottom, right) = c["pre_padding"], c["post_padding"]
    return F.pad(c.x[0], (left, right, top, bottom))


def _convolution(c: Call) -> Tensor:
    groups = c["num_groups"]
    weight, bias = _kernel(c, (c["num_output_maps"], c.x[0].shape[1] // groups))
    return F.conv2d(_padded(c), weight, bias, c["stride_nd"], 0, c["dilation_nd"], groups)


def _deconvolution(c: Call) -> Tensor:
    """Weights are input × output channels; padding would cut the result and is not used."""
    groups = c["num_groups"]
    c.need("padding_mode", "EXPLICIT_ROUND_DOWN")
    if any((*c["pre_padding"], *c["post_padding"])):
        raise c.refuse("padding of a transposed convolution")
    weight, bias = _kernel(c, (c.x[0].shape[1], c["num_output_maps"] // groups))
    return F.conv_transpose2d(c.x[0], weight, bias, c["stride_nd"], 0, 0, groups, c["dilation_nd"])


def _constant(c: Call) -> Tensor:
    values = torch.from_numpy(np.asarray(c["weights"]).copy()).reshape(c["shape"])
    return values.to(c.dtype) if values.is_floating_point() else values


ACTIVATIONS: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "RELU": lambda x, a, b: torch.relu(x),
    "SIGMOID": lambda x, a, b: torch.sigmoid(x),
    "TANH": lambda x, a, b: torch.tanh(x),
    "LEAKY_RELU": lambda x, a, b: F.leaky_relu(x, a),
    "CLIP": lambda x, a, b: x.clamp(a, b),
}
ELEMENTWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "SUM": torch.add, "PROD": torch.mul, "MAX": torch.maximum, "MIN": torch.minimum, "SUB": torch.sub,
    "DIV": torch.div, "GREATER": torch.gt, "LESS": torch.lt,
}  # fmt: skip
UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "ABS": torch.abs,
    "NEG": torch.neg,
    "EXP": torch.exp,
    "SQRT": torch.sqrt,
}


def _prelu(c: Call) -> Tensor:
    x, slope = c.x
    return torch.where(x >= 0, x, slope * x)


def _shuffle(c: Call) -> Tensor:
    """A transposition, a reshape and another transposition, each of which may be missing."""
    if len(c.x) > 1:
        raise c.refuse("a reshape to a computed size")
    x = c.x[0].permute(c["first_transpose"][: c.x[0].dim()])
    if (shape := c["reshape_dims"]) is not None:
        copies = c["zero_is_placeholder"]
        x = x.reshape([x.shape[i] if size == 0 and copies else size for i, size in enumerate(shape)])
    return x.permute(c["second_transpose"][: x.dim()])


def _scale(c: Call) -> Tensor:
    """(x · scale + shift) ^ power, for the whole map or by channel."""
    c.need("mode", "UNIFORM", "CHANNEL")
    sizes = [1] * c.x[0].dim()
    sizes[c["channel_axis"]] = -1
    scale, shift, power = (c.weights(name) for name in ("scale", "shift", "power"))
    y = c.x[0] if scale is None else c.x[0] * scale.reshape(sizes)
    y = y if shift is None else y + shift.reshape(sizes)
    return y if power is None else y ** power.reshape(sizes)


def _resize(c: Call) -> Tensor:
    """Linear in height and width, from corner to corner or with samples at half pixels."""
    c.need("resize_mode", "LINEAR")
    where = c.need("coordinate_transformation", "ALIGN_CORNERS", "HALF_PIXEL")
    size = c.step.outputs[0].shape
    if len(c.x) > 1 or size[:2] != tuple(c.x[0].shape[:2]):
        raise c.refuse("a resize to a computed size or across channels")
    given = c["scales"]
    if given and [int(s * g) for s, g in zip(c.x[0].shape, given)] != list(size):
        raise c.refuse(f"factors {given} that do not lead to {list(size)}")
    return F.interpolate(c.x[0], size[2:], mode="bilinear", align_corners=where == "ALIGN_CORNERS")


def _pooling(c: Call) -> Tensor:
    """Means are summed in float64: a float32 sum over a large window, value by value, loses digits."""
    c.need("padding_mode", "EXPLICIT_ROUND_DOWN")
    if c["pre_padding"] != c["post_padding"]:
        raise c.refuse("padding that differs from side to side")
    window, stride, padding = c["window_size_nd"], c["stride_nd"], c["pre_padding"]
    if c.need("type", "AVERAGE", "MAX") == "MAX":
        return F.max_pool2d(c.x[0], window, stride, padding)
    counts = not c["average_count_excludes_padding"]
    return F.avg_pool2d(c.x[0].double(), window, stride, padding, False, counts).to(c.dtype)


def _matrix_multiply(c: Call) -> Tensor:
    sides = []
    for x, name in zip(c.x, ("op0", "op1")):
        sides.append(x.transpose(-1, -2) if c.need(name, "NONE", "TRANSPOSE") == "TRANSPOSE" else x)
    return sides[0] @ sides[1]


def _axes(mask: int) -> list[int]:
    """A bit for every axis."""
    return [axis for axis in range(8) if mask >> axis & 1]


def _softmax(c: Call) -> Tensor:
    (axis,) = _axes(c["axes"])
    return torch.softmax(c.x[0], axis)


def _reduce(c: Call) -> Tensor:
    axes, keep = _axes(c["axes"]), bool(c["keep_dims"])
    kind = c.need("op", "AVG", "SUM", "MAX", "MIN")
    if kind in ("MAX", "MIN"):
        return (c.x[0].amax if kind == "MAX" else c.x[0].amin)(axes, keep)
    wide = c.x[0].double()
    return (wide.mean(axes, keep) if kind == "AVG" else wide.sum(axes, keep)).to(c.dtype)


def _top_k(c: Call) -> tuple[Tensor, Tensor]:
    """The first of equal values, for one value along one axis."""
    kind, (axis,) = c.need("op", "MAX", "MIN"), _axes(c["axes"])
    if len(c.x) > 1 or c["k"] != 1:
        raise c.refuse("more than one value")
    index = (c.x[0].argmax if kind == "MAX" else c.x[0].argmin)(axis, keepdim=True)
    return c.x[0].gather(axis, index), index.to(DTYPES[c.step.outputs[1].element])


def _gather(c: Call) -> Tensor:
    c.need("mode", "DEFAULT")
    c.need("num_elementwise_dims", 0)
    x, index = c.x
    if index.dim() != 1:
        raise c.refuse("an index that is no list")
    return x.index_select(c["axis"], torch.where(index < 0, index + x.shape[c["axis"]], index))


def _slice(c: Call) -> Tensor:
    """Start, size and stride of every axis, or of those named; each is an attribute or, given as a value, that."""
    c.need("mode", "STRICT_BOUNDS")
    given = dict(zip(("start", "shape", "stride", "fill", "axes"), c.step.inputs[1:]))
    values = dict(zip(c.step.inputs, c.x))
    start, size, stride, axes = (
        values[given[name]].tolist() if given.get(name) else c[name] for name in ("start", "shape", "stride", "axes")
    )
    y = c.x[0]
    for axis, first, count, step in zip(axes or range(y.dim()), start, size, stride, strict=True):
        y = y.index_select(axis, first + step * torch.arange(count))
    return y


def _as_declared(c: Call) -> Tensor:
    """The shape or the type of the output; floating-point values stay in the type of the arithmetic."""
    declared = c.step.outputs[0]
    return c.x[0].reshape(declared.shape).to(DTYPES.get(declared.element, c.dtype))


def _per_axis(c: Call, values: Tensor) -> Tensor:
    """One number, or one for each place along the layer's axis."""
    if values.numel() == 1:
        return values.reshape(())
    sizes = [1] * c.x[0].dim()
    sizes[c["axis"]] = -1
    return values.reshape(sizes)


def _zero(c: Call) -> None:
    if len(c.x) > 2 and bool(c.x[2].any()):
        raise c.refuse("a zero point other than zero")


def _quantize(c: Call) -> Tensor:
    """Ties go to even, and what is beyond the range to its end."""
    _zero(c)
    return torch.round(c.x[0] / _per_axis(c, c.x[1])).clamp(-128, 127).to(torch.int8)


def _dequantize(c: Call) -> Tensor:
    _zero(c)
    return c.x[0].to(c.dtype) * _per_axis(c, c.x[1])


def _word(name: str, table: dict[str, Callable[..., Tensor]], *more: str) -> Layer:
    """A layer whose attribute ``name`` says which function it is; ``more`` are its other numbers."""
    return lambda c: table[c.need(name, *table)](*c.x, *(c[m] for m in more))


LAYERS: dict[str, Layer] = {
    "CONVOLUTION": _convolution,
    "DECONVOLUTION": _deconvolution,
    "CONSTANT": _constant,
    "PARAMETRIC_RELU": _prelu,
    "ACTIVATION": _word("type", ACTIVATIONS, "alpha", "beta"),
    "SHUFFLE": _shuffle,
    "SCALE": _scale,
    "ELEMENTWISE": _word("op", ELEMENTWISE),
    "UNARY": _word("op", UNARY),
    "CONCATENATION": lambda c: torch.cat(c.x, c["axis"]),
    "RESIZE": _resize,
    "POOLING": _pooling,
    "MATRIX_MULTIPLY": _matrix_multiply,
    "SOFTMAX": _softmax,
    "REDUCE": _reduce,
    "TOPK": _top_k,
    "GATHER": _gather,
    "SLICE": _slice,
    "SQUEEZE": _as_declared,
    "UNSQUEEZE": _as_declared,
    "IDENTITY": _as_declared,
    "CAST": _as_declared,
    "QUANTIZE": _quantize,
    "DEQUANTIZE": _dequantize,
}
