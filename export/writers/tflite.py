"""The intermediate form as a TFLite model, NHWC throughout, without a transposition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_of
from lightseg.export.graph.quantised import FakeQuantise, QuantisedConv
from lightseg.export.graph.shapes import Shape, shapes
from lightseg.export.writers.flatbuffer import FlatModel
from lightseg.export.writers.half import as_half
from lightseg.export.writers.tflite_convolutions import VALID, conv, deconv, fake_quantise, quantised_conv

Inputs = list[int]


def write_tflite(
    graph: fx.GraphModule, input_shape: Shape, input_name: str, output_name: str, half: bool = False
) -> bytes:
    """The bytes of a model. ``input_shape`` is N×3×H×W, or N×H×W×3 where the graph takes images.

    With ``half``, weights are stored as float16, each with the DEQUANTIZE in front of the float operation that reads
    it: delegates take the pair as one, and compute in float16 or float32 as they are told. Values of a `FakeQuantise`
    are int8 for the convolutions that read them, and come from a DEQUANTIZE for all other operations.
    Errors: `Unsupported` when a weight does not fit float16, and for grids that int8 tensors do not have.
    """
    return Writer(graph, input_shape, half).write(input_name, output_name)


def _nhwc(shape: Shape) -> Shape:
    return (shape[0], shape[2], shape[3], shape[1])


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy()


class Writer:
    def __init__(self, graph: fx.GraphModule, input_shape: Shape, half: bool) -> None:
        self.graph, self.half = graph, half
        self.takes_images = any(isinstance(m, ops.FromImage) for m in graph.children())
        self.input_shape = input_shape
        self.shapes = shapes(graph, input_shape)
        self.flat = FlatModel()
        self.values: dict[fx.Node, int] = {}
        self._widened: dict[int, int] = {}
        self._floats: dict[fx.Node, int] = {}

    def write(self, input_name: str, output_name: str) -> bytes:
        image = result = -1
        for node in self.graph.graph.nodes:
            if node.op == "placeholder":
                image = self._input(input_name)
                self.values[node] = image
            elif node.op == "output":
                result = self.value(node.args[0])
                self.flat.graph.tensors[result].name = output_name.encode()
            else:
                op = self.op(node)
                read = self.values.__getitem__ if isinstance(op, QuantisedConv) else self.value
                inputs = [read(source) for source in node.args]
                self.values[node] = WRITERS[type(op)](self, node, op, inputs)
        return self.flat.finish({input_name: image}, {output_name: result})

    def _input(self, name: str) -> int:
        if self.takes_images:
            return self.flat.tensor(name, self.input_shape, "uint8")
        return self.flat.tensor(name, _nhwc(self.input_shape))

    def op(self, node: fx.Node) -> nn.Module | None:
        return op_of(self.graph, node)

    def value(self, node: fx.Node) -> int:
        """The tensor that holds ``node``'s value, in float where it is one of real numbers."""
        if not isinstance(self.op(node), FakeQuantise):
            return self.values[node]
        if node not in self._floats:
            self._floats[node] = self.flat.operator("DEQUANTIZE", [self.values[node]], self.out(node, "_float"), 2)
        return self._floats[node]

    def out(self, node: fx.Node, suffix: str = "", dtype: str = "float32", shape: Shape | None = None) -> int:
        """The NHWC tensor that holds ``node``'s value, or an intermediate one on the way to it."""
        return self.flat.tensor(node.name + suffix, shape or _nhwc(self.shapes[node]), dtype)

    def weights(self, name: str, values: NDArray[Any]) -> int:
        """A constant of the network itself, in the precision asked for; the operation that reads it sees float32."""
        if not self.half:
            return self.flat.constant(name, values)
        stored = self.flat.constant(f"{name}_half", as_half(name, values), "float16")
        if stored not in self._widened:
            wide = self.flat.tensor(name, np.shape(values))
            self._widened[stored] = self.flat.operator("DEQUANTIZE", [stored], wide, 3)
        return self._widened[stored]

    def shape_in(self, node: fx.Node, index: int = 0) -> Shape:
        source = node.args[index]
        assert isinstance(source, fx.Node)
        return self.shapes[source]


def _affine(w: Writer, node: fx.Node, op: ops.Affine, inputs: Inputs) -> int:
    scale, shift = (_per_channel(_array(v)) for v in (op.scale, op.shift))
    scaled = inputs[0]
    if (scale != 1).any():
        target = w.out(node, "_scaled") if shift.any() else w.out(node)
        scaled = w.flat.operator("MUL", [scaled, w.weights(node.name + "_scale", scale)], target)
    if shift.any():
        scaled = w.flat.operator("ADD", [scaled, w.weights(node.name + "_shift", shift)], w.out(node))
    return scaled


def _per_channel(values: NDArray[Any]) -> NDArray[Any]:
    """A scalar where all channels agree: runtimes have a faster kernel for it."""
    return values[:1] if (values == values[0]).all() else values.reshape(1, 1, 1, -1)


def _prelu(w: Writer, node: fx.Node, op: ops.PReLU, inputs: Inputs) -> int:
    slope = w.weights(node.name + "_slope", _array(op.slope).reshape(1, 1, -1))
    return w.flat.operator("PRELU", [inputs[0], slope], w.out(node))


def _upsample(w: Writer, node: fx.Node, op: ops.Upsample, inputs: Inputs) -> int:
    size = w.flat.constant("size", w.shapes[node][2:], "int32")
    options = {"alignCorners": op.align_corners, "halfPixelCenters": not op.align_corners}
    return w.flat.operator("RESIZE_BILINEAR", [inputs[0], size], w.out(node), 3, **options)


def _avg_pool(w: Writer, node: fx.Node, op: ops.AvgPool, inputs: Inputs) -> int:
    k = op.factor
    window = {"padding": VALID, "filterHeight": k, "filterWidth": k, "strideH": k, "strideW": k}
    return w.flat.operator("AVERAGE_POOL_2D", inputs, w.out(node), **window)


def _mean(w: Writer, node: fx.Node, op: ops.GlobalMean, inputs: Inputs) -> int:
    axes = w.flat.constant("spatial_axes", [1, 2], "int32")
    return w.flat.operator("MEAN", [inputs[0], axes], w.out(node), keepDims=True)


def _max_channel(w: Writer, node: fx.Node, op: ops.MaxChannel, inputs: Inputs) -> int:
    axis = w.flat.constant("channel_axes", [3], "int32")
    return w.flat.operator("REDUCE_MAX", [inputs[0], axis], w.out(node), keepDims=True)


def _permute(w: Writer, node: fx.Node, op: ops.Permute, inputs: Inputs) -> int:
    index = w.flat.constant(node.name + "_index", _array(op.index), "int32")
    return w.flat.operator("GATHER", [inputs[0], index], w.out(node), axis=3)


def _negatives(w: Writer, node: fx.Node, op: ops.Negatives, inputs: Inputs) -> int:
    return w.flat.operator("MINIMUM", [inputs[0], w.flat.constant("zero", [0.0])], w.out(node))


def _depth_to_space(w: Writer, node: fx.Node, op: ops.DepthToSpace, inputs: Inputs) -> int:
    return w.flat.operator("DEPTH_TO_SPACE", inputs, w.out(node), blockSize=op.block)


def _first_channels(w: Writer, node: fx.Node, op: ops.FirstChannels, inputs: Inputs) -> int:
    return _slice(w, node, "", inputs[0], (0, 0, 0, 0), _nhwc(w.shapes[node]))


def _arg_max(w: Writer, node: fx.Node, op: ops.ArgMax, inputs: Inputs) -> int:
    shape = _nhwc(w.shapes[node])
    index = w.out(node, "_index", "int32", shape[:3])
    w.flat.operator(
        "ARG_MAX",
        [inputs[0], w.flat.constant("channel_axis", 3, "int32")],
        index,
        outputType=w.flat.schema.TensorType.INT32,
    )
    small = w.flat.operator("CAST", [index], w.out(node, "_uint8", "uint8", shape[:3]))
    return w.flat.operator(
        "RESHAPE", [small, w.flat.constant("mask_shape", shape, "int32")], w.out(node, "", "uint8"), newShape=shape
    )


def _positive(w: Writer, node: fx.Node, op: ops.Positive, inputs: Inputs) -> int:
    zero = w.flat.constant("zero", [0.0])
    above = w.flat.operator("GREATER", [inputs[0], zero], w.out(node, "_above", "bool"))
    return w.flat.operator("CAST", [above], w.out(node, "", "uint8"))


def _reshape(w: Writer, node: fx.Node, op: nn.Module, inputs: Inputs) -> int:
    return _as(w, node, "", inputs[0], _nhwc(w.shapes[node]))


def _stretch_rows(w: Writer, node: fx.Node, op: ops.StretchRows, inputs: Inputs) -> int:
    size = w.flat.constant("size", w.shapes[node][2:], "int32")
    options = {"alignCorners": op.align_corners, "halfPixelCenters": not op.align_corners}
    return w.flat.operator("RESIZE_BILINEAR", [inputs[0], size], w.out(node), 3, **options)


def _slice(w: Writer, node: fx.Node, suffix: str, x: int, begin: Shape, size: Shape) -> int:
    bounds = [w.flat.constant("begin", begin, "int32"), w.flat.constant("extent", size, "int32")]
    return w.flat.operator("SLICE", [x, *bounds], w.out(node, suffix, shape=size))


def _as(w: Writer, node: fx.Node, suffix: str, x: int, shape: Shape) -> int:
    extent = w.flat.constant("extent", shape, "int32")
    return w.flat.operator("RESHAPE", [x, extent], w.out(node, suffix, shape=shape), newShape=shape)


def _plain(kind: str, dtype: str = "float32", **options: Any) -> Callable[[Writer, fx.Node, Any, Inputs], int]:
    """An operation that is one operator with the same arguments."""

    def write(w: Writer, node: fx.Node, op: Any, inputs: Inputs) -> int:
        return w.flat.operator(kind, inputs, w.out(node, dtype=dtype), **options)

    return write


WRITERS: dict[type, Callable[[Writer, fx.Node, Any, Inputs], int]] = {
    ops.Conv: conv,
    ops.Deconv: deconv,
    ops.Affine: _affine,
    ops.PReLU: _prelu,
    ops.Concat: _plain("CONCATENATION", axis=3),
    ops.Add: _plain("ADD"),
    ops.Mul: _plain("MUL"),
    ops.AvgPool: _avg_pool,
    ops.GlobalMean: _mean,
    ops.Upsample: _upsample,
    ops.Permute: _permute,
    ops.Softmax: _plain("SOFTMAX", beta=1.0),
    ops.MaxChannel: _max_channel,
    ops.Sigmoid: _plain("LOGISTIC"),
    ops.Abs: _plain("ABS"),
    ops.Positives: _plain("RELU"),
    ops.Negatives: _negatives,
    ops.DepthToSpace: _depth_to_space,
    ops.FirstChannels: _first_channels,
    ops.ArgMax: _arg_max,
    ops.Positive: _positive,
    ops.FromImage: _plain("CAST"),
    ops.ColumnsToChannels: _reshape,
    ops.ChannelsToColumns: _reshape,
    ops.StretchRows: _stretch_rows,
    FakeQuantise: fake_quantise,
    QuantisedConv: quantised_conv,
}
