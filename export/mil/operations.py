"""What each MIL operation means, in PyTorch: one function per operation, after the format's documentation.

Only what the writer can produce, and what Core ML's own passes turn that into, is here. Everything else is refused by
name. Padding is [top, bottom, left, right]; axes may be negative; a zero in a reshape copies the input's size.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lightseg.export.mil.arguments import Arguments

Operation = Callable[[Arguments], Tensor]


def _padding(a: Arguments) -> list[int]:
    """Custom padding as PyTorch's pad wants it: left, right, top, bottom."""
    kind = a.text("pad_type", "valid")
    pad = a.ints("pad", [0, 0, 0, 0])
    if kind not in ("valid", "custom"):
        raise a.refuse(f"padding {kind!r}")
    top, bottom, left, right = pad if kind == "custom" else (0, 0, 0, 0)
    return [left, right, top, bottom]


def _conv(a: Arguments) -> Tensor:
    x, weight, bias = a.tensor("x"), a.tensor("weight"), a.optional_tensor("bias")
    strides, dilations = a.ints("strides", [1, 1]), a.ints("dilations", [1, 1])
    return F.conv2d(F.pad(x, _padding(a)), weight, bias, strides, 0, dilations, a.int("groups", 1))


def _conv_transpose(a: Arguments) -> Tensor:
    """The weight is I×O/groups×kh×kw; a given output shape must be the one that follows from the rest."""
    x, weight, bias = a.tensor("x"), a.tensor("weight"), a.optional_tensor("bias")
    strides, dilations = a.ints("strides", [1, 1]), a.ints("dilations", [1, 1])
    if any(_padding(a)):
        raise a.refuse("padding of a transposed convolution")
    y = F.conv_transpose2d(x, weight, bias, strides, 0, 0, a.int("groups", 1), dilations)
    if "output_shape" in a and a.ints("output_shape") != list(y.shape):
        raise a.refuse(f"output shape {a.ints('output_shape')} where {list(y.shape)} follows")
    return y


def _avg_pool(a: Arguments) -> Tensor:
    """The flag that leaves padding out of the mean is the negation of PyTorch's.

    Means are summed in float64: a float32 sum over a large window, value by value, is off by more than all the other
    operations of a network together.
    """
    left, right, top, bottom = _padding(a)
    if (left, top) != (right, bottom):
        raise a.refuse("padding that differs from side to side")
    kernel, strides = a.ints("kernel_sizes"), a.ints("strides", [1, 1])
    counts = not a.flag("exclude_padding_from_average", False)
    x = a.tensor("x")
    y = F.avg_pool2d(x.double(), kernel, strides, (top, left), a.flag("ceil_mode", False), counts)
    return y.to(x.dtype)


def _batch_norm(a: Arguments) -> Tensor:
    x, mean, variance = a.tensor("x"), a.tensor("mean"), a.tensor("variance")
    scale, shift = a.optional_tensor("gamma"), a.optional_tensor("beta")
    return F.batch_norm(x, mean, variance, scale, shift, eps=a.number("epsilon", 1e-5))


def _prelu(a: Arguments) -> Tensor:
    return F.prelu(a.tensor("x"), a.tensor("alpha"))


def _leaky_relu(a: Arguments) -> Tensor:
    return F.leaky_relu(a.tensor("x"), a.number("alpha", 0.01))


def _concat(a: Arguments) -> Tensor:
    if a.flag("interleave", False):
        raise a.refuse("an interleaved concat")
    return torch.cat(a.tensors("values"), a.int("axis"))


def _upsample_bilinear(a: Arguments) -> Tensor:
    """Without aligned corners samples lie at half pixels, unless a later opset says otherwise."""
    x = a.tensor("x")
    factors = a.number("scale_factor_height", 1.0), a.number("scale_factor_width", 1.0)
    size = [math.floor(s * f) for s, f in zip(x.shape[2:], factors)]
    aligned = a.flag("align_corners", True)
    if not aligned and not a.flag("half_pixel_centers", True):
        raise a.refuse("bilinear sampling at neither corners nor half pixels")
    if aligned and "half_pixel_centers" in a and a.flag("half_pixel_centers"):
        raise a.refuse("bilinear sampling at corners and half pixels at once")
    return F.interpolate(x, size, mode="bilinear", align_corners=aligned)


def _depth_to_space(a: Arguments) -> Tensor:
    """Channel (i·block + j)·C + c becomes channel c at row i and column j of a block, as in TensorFlow."""
    x, block = a.tensor("x"), a.int("block_size")
    n, c, h, w = x.shape
    blocks = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return blocks.reshape(n, c // block**2, h * block, w * block)


def _reshape(a: Arguments) -> Tensor:
    x = a.tensor("x")
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(a.ints("shape"))])


def _transpose(a: Arguments) -> Tensor:
    return a.tensor("x").permute(a.ints("perm"))


def _gather(a: Arguments) -> Tensor:
    if a.flag("validate_indices", False) or a.int("batch_dims", 0):
        raise a.refuse("a gather that checks its indices or has batch dimensions")
    x, axis = a.tensor("x"), a.int("axis", 0)
    index = torch.tensor(a.ints("indices"))
    return x.index_select(axis, torch.where(index < 0, index + x.shape[axis], index))


def _slice_by_size(a: Arguments) -> Tensor:
    """A size of −1 means all that is left."""
    x = a.tensor("x")
    for axis, (begin, size) in enumerate(zip(a.ints("begin"), a.ints("size"))):
        x = x.narrow(axis, begin, x.shape[axis] - begin if size == -1 else size)
    return x


def _reduce_mean(a: Arguments) -> Tensor:
    x = a.tensor("x")
    return x.mean(a.ints("axes"), a.flag("keep_dims", False), dtype=torch.float64).to(x.dtype)


def _reduce_max(a: Arguments) -> Tensor:
    return a.tensor("x").amax(a.ints("axes"), a.flag("keep_dims", False))


def _reduce_argmax(a: Arguments) -> Tensor:
    if a.text("output_dtype", "int32") != "int32":
        raise a.refuse("an index that is not int32")
    return a.tensor("x").argmax(a.int("axis", -1), a.flag("keep_dims", True)).to(torch.int32)


def _grid(a: Arguments) -> tuple[float, int]:
    """(scale, zero point) of a whole tensor."""
    if "axis" in a:
        raise a.refuse("a grid per channel of a computed value")
    return a.number("scale"), a.int("zero_point", 0)


def _quantize(a: Arguments) -> Tensor:
    """Rounded half to even, clipped to all that the type holds."""
    if a.text("output_dtype") != "int8":
        raise a.refuse("values of another type than int8")
    scale, zero = _grid(a)
    return (torch.round(a.tensor("input") / scale) + zero).clamp(-128, 127).to(torch.int8)


def _dequantize(a: Arguments) -> Tensor:
    scale, zero = _grid(a)
    return ((a.tensor("input").to(torch.float64) - zero) * scale).to(a.dtype)


CASTS: dict[str, torch.dtype | None] = {"fp16": None, "fp32": None, "int32": torch.int32, "bool": torch.bool}
"""None: a floating-point value, which the interpreter rounds to the declared type of the output."""


def _cast(a: Arguments) -> Tensor:
    wanted = a.text("dtype")
    if wanted not in CASTS:
        raise a.refuse(f"a cast to {wanted}")
    x, dtype = a.tensor("x"), CASTS[wanted]
    return x if dtype is None else x.to(dtype)


def _unary(function: Callable[[Tensor], Tensor]) -> Operation:
    return lambda a: function(a.tensor("x"))


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Operation:
    return lambda a: function(a.tensor("x"), a.tensor("y"))


OPERATIONS: dict[str, Operation] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "avg_pool": _avg_pool,
    "batch_norm": _batch_norm,
    "prelu": _prelu,
    "leaky_relu": _leaky_relu,
    "relu": _unary(torch.relu),
    "sigmoid": _unary(torch.sigmoid),
    "abs": _unary(torch.abs),
    "identity": _unary(lambda x: x),
    "softmax": lambda a: torch.softmax(a.tensor("x"), a.int("axis", -1)),
    "add": _binary(torch.add),
    "sub": _binary(torch.sub),
    "mul": _binary(torch.mul),
    "minimum": _binary(torch.minimum),
    "greater": _binary(torch.gt),
    "concat": _concat,
    "upsample_bilinear": _upsample_bilinear,
    "depth_to_space": _depth_to_space,
    "reshape": _reshape,
    "transpose": _transpose,
    "gather": _gather,
    "slice_by_size": _slice_by_size,
    "reduce_mean": _reduce_mean,
    "reduce_max": _reduce_max,
    "reduce_argmax": _reduce_argmax,
    "cast": _cast,
    "quantize": _quantize,
    "dequantize": _dequantize,
}
