"""The intermediate form as an ONNX model; node names say which module of the network they came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from lightseg.errors import Unsupported
from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_of
from lightseg.export.graph.quantised import FakeQuantise, QuantisedConv
from lightseg.export.graph.shapes import Shape

OPSET = 20
IR_VERSION = 10

Names = list[str]


def write_onnx(
    graph: fx.GraphModule,
    input_shape: Sequence[int | str],
    output_shape: Sequence[int | str],
    input_name: str,
    output_name: str,
    softmax_in_steps: bool = False,
    signed: bool = False,
) -> bytes:
    """The bytes of a float32 model. A string in a shape is a dimension that stays open.

    ``softmax_in_steps`` writes maximum, difference, exponential, sum and quotient in place of Softmax, and no more of
    them than its reader needs: the largest share is one over the sum. ``signed`` stores what is quantised as int8, the
    only integers TensorRT takes; else the same grid is one of uint8, the only one ONNX Runtime fuses on x86.
    """
    import onnx
    from onnx import TensorProto, helper

    writer = _Writer(input_name, output_name)
    writer.softmax_in_steps, writer.signed = softmax_in_steps, signed
    writer.write(graph)
    first = TensorProto.UINT8 if writer.takes_images else TensorProto.FLOAT
    last = TensorProto.UINT8 if writer.gives_mask else TensorProto.FLOAT
    model = helper.make_model(
        helper.make_graph(
            writer.nodes,
            "lightseg",
            [helper.make_tensor_value_info(input_name, first, list(input_shape))],
            [helper.make_tensor_value_info(output_name, last, list(output_shape))],
            writer.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="lightseg",
    )
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data


def with_metadata(data: bytes, name: str, text: str) -> bytes:
    """The same model with the property ``name`` set to ``text``."""
    import onnx

    model = onnx.load_from_string(data)
    properties = {p.key: p.value for p in model.metadata_props} | {name: text}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, properties)
    stamped: bytes = model.SerializeToString()
    return stamped


class _Writer:
    def __init__(self, input_name: str, output_name: str) -> None:
        self.input_name, self.output_name = input_name, output_name
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.takes_images = self.gives_mask = self.softmax_in_steps = self.signed = False
        self.values: dict[fx.Node, str] = {}
        self._shares: set[fx.Node] = set()
        self._constants: dict[tuple[bytes, Shape, str], str] = {}

    def write(self, graph: fx.GraphModule) -> None:
        last = next(n for n in graph.graph.nodes if n.op == "output").args[0]
        for node in graph.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = self.input_name
            elif node.op == "call_module":
                op = graph.get_submodule(str(node.target))
                self.takes_images |= isinstance(op, ops.FromImage)
                self.gives_mask |= node is last and isinstance(op, ops.ArgMax | ops.Positive)
                self.values[node] = self.output_name if node is last else node.name
                inputs = [self.values[a] for a in node.args]
                self._write(graph, node, op, inputs)

    def _write(self, graph: fx.GraphModule, node: fx.Node, op: nn.Module, inputs: Names) -> None:
        """A softmax of which the largest share alone is read is left to its reader."""
        if self.softmax_in_steps and isinstance(op, ops.Softmax) and _only_largest(graph, node):
            self.values[node] = inputs[0]
            self._shares.add(node)
        elif self._shares.intersection(node.all_input_nodes):
            _largest_share(self, node.name, op, inputs, self.values[node])
        else:
            WRITERS[type(op)](self, node.name, op, inputs, self.values[node])

    def node(self, kind: str, name: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def constant(
        self, name: str, values: Tensor | NDArray[Any] | Sequence[float] | float, dtype: str = "float32"
    ) -> str:
        """An initializer; equal ones are stored once. A dot in ``name`` keeps it apart from the nodes' names."""
        from onnx import numpy_helper

        array: NDArray[Any] = np.array(np.asarray(values, dtype), order="C")
        key = (array.tobytes(), array.shape, dtype)
        if key not in self._constants:
            self._constants[key] = name
            self.initializers.append(numpy_helper.from_array(array, name))
        return self._constants[key]


def _conv(w: _Writer, name: str, op: ops.Conv, x: Names, y: str) -> None:
    weights = [w.constant(name + ".weight", op.weight)]
    if op.bias is not None:
        weights.append(w.constant(name + ".bias", op.bias))
    window = {"kernel_shape": list(op.weight.shape[2:]), "strides": op.stride, "dilations": op.dilation}
    w.node("Conv", name, [*x, *weights], y, pads=[*op.padding, *op.padding], group=op.groups, **window)


def _quantised_conv(w: _Writer, name: str, op: QuantisedConv, x: Names, y: str) -> None:
    """Integers in the file, each behind the node that says what they are worth; runtimes fuse the four."""
    parts = {"weight": (op.integer_weight(), op.weight_scale), "bias": (op.integer_bias(), op.bias_scale)}
    for part, (integers, scale) in parts.items():
        dtype = "int8" if part == "weight" else "int32"
        stored = [w.constant(f"{name}.{part}", integers, dtype), w.constant(f"{name}.{part}_scale", scale)]
        x = [*x, w.node("DequantizeLinear", f"{name}_{part}", stored, f"{name}_{part}", axis=0)]
    window = {"kernel_shape": list(op.weight.shape[2:]), "strides": op.stride, "dilations": op.dilation}
    w.node("Conv", name, x, y, pads=[*op.padding, *op.padding], group=op.groups, **window)


def _fake_quantise(w: _Writer, name: str, op: FakeQuantise, x: Names, y: str) -> None:
    if (op.low, op.high) != (-128, 127):
        raise Unsupported(f"{name} quantises to {op.low}…{op.high}, which is not int8")
    dtype, zero = ("int8", op.zero_point) if w.signed else ("uint8", op.zero_point + 128)
    grid = [w.constant(f"{name}.scale", op.scale), w.constant(f"{name}.zero", zero, dtype)]
    integers = w.node("QuantizeLinear", name + "_integers", [*x, *grid], name + "_integers")
    w.node("DequantizeLinear", name, [integers, *grid], y)


def _deconv(w: _Writer, name: str, op: ops.Deconv, x: Names, y: str) -> None:
    weights = [w.constant(name + ".weight", op.weight)]
    if op.bias is not None:
        weights.append(w.constant(name + ".bias", op.bias))
    kernel = list(op.weight.shape[2:])
    w.node("ConvTranspose", name, [*x, *weights], y, kernel_shape=kernel, strides=kernel)


def _affine(w: _Writer, name: str, op: ops.Affine, x: Names, y: str) -> None:
    """A multiplication, an addition, or both: neither where it would change nothing."""
    scales, shifts = bool((op.scale != 1).any()), bool(op.shift.any())
    if scales:
        target = name + "_scaled" if shifts else y
        x = [w.node("Mul", name + "_mul", [*x, w.constant(name + ".scale", op.scale[:, None, None])], target)]
    if shifts or not scales:
        w.node("Add", name, [*x, w.constant(name + ".shift", op.shift[:, None, None])], y)


def _prelu(w: _Writer, name: str, op: ops.PReLU, x: Names, y: str) -> None:
    w.node("PRelu", name, [*x, w.constant(name + ".slope", op.slope[:, None, None])], y)


def _upsample(w: _Writer, name: str, op: ops.Upsample, x: Names, y: str) -> None:
    scales = w.constant(f"scales.{op.factor}", [1, 1, op.factor, op.factor])
    where = "align_corners" if op.align_corners else "half_pixel"
    w.node("Resize", name, [*x, "", scales], y, mode="linear", coordinate_transformation_mode=where)


def _avg_pool(w: _Writer, name: str, op: ops.AvgPool, x: Names, y: str) -> None:
    w.node("AveragePool", name, x, y, kernel_shape=[op.factor] * 2, strides=[op.factor] * 2)


def _reduce(kind: str, *axes: int) -> Callable[[_Writer, str, Any, Names, str], None]:
    def write(w: _Writer, name: str, op: Any, x: Names, y: str) -> None:
        w.node(kind, name, [*x, w.constant(f"axes.{'_'.join(map(str, axes))}", axes, "int64")], y, keepdims=1)

    return write


def _permute(w: _Writer, name: str, op: ops.Permute, x: Names, y: str) -> None:
    w.node("Gather", name, [*x, w.constant(name + ".index", op.index, "int64")], y, axis=1)


def _negatives(w: _Writer, name: str, op: ops.Negatives, x: Names, y: str) -> None:
    w.node("Min", name, [*x, w.constant("zero.0", [0.0])], y)


def _depth_to_space(w: _Writer, name: str, op: ops.DepthToSpace, x: Names, y: str) -> None:
    w.node("DepthToSpace", name, x, y, blocksize=op.block, mode="DCR")


def _first_channels(w: _Writer, name: str, op: ops.FirstChannels, x: Names, y: str) -> None:
    bounds = [w.constant(f"int.{v}", [v], "int64") for v in (0, op.count, 1)]
    w.node("Slice", name, [*x, *bounds], y)


def _arg_max(w: _Writer, name: str, op: ops.ArgMax, x: Names, y: str) -> None:
    index = w.node("ArgMax", name + "_index", x, name + "_index", axis=1, keepdims=1)
    _cast(w, name, index, y, "UINT8")


def _positive(w: _Writer, name: str, op: ops.Positive, x: Names, y: str) -> None:
    above = w.node("Greater", name + "_above", [*x, w.constant("zero.0", [0.0])], name + "_above")
    _cast(w, name, above, y, "UINT8")


def _from_image(w: _Writer, name: str, op: ops.FromImage, x: Names, y: str) -> None:
    planes = w.node("Transpose", name + "_planes", x, name + "_planes", perm=[0, 3, 1, 2])
    _cast(w, name, planes, y, "FLOAT")


def _cast(w: _Writer, name: str, x: str, y: str, to: str) -> None:
    from onnx import TensorProto

    w.node("Cast", name, [x], y, to=getattr(TensorProto, to))


def _softmax(w: _Writer, name: str, op: ops.Softmax, x: Names, y: str) -> None:
    if not w.softmax_in_steps:
        w.node("Softmax", name, x, y, axis=1)
        return
    powers, total = _powers(w, name, x)
    w.node("Div", name, [powers, total], y)


def _largest_share(w: _Writer, name: str, op: nn.Module, x: Names, y: str) -> None:
    """The largest of the powers is e⁰."""
    _, total = _powers(w, name, x)
    w.node("Reciprocal", name, [total], y)


def _only_largest(graph: fx.GraphModule, softmax: fx.Node) -> bool:
    return all(isinstance(op_of(graph, reader), ops.MaxChannel) for reader in softmax.users)


def _powers(w: _Writer, name: str, x: Names) -> tuple[str, str]:
    """e to what every channel is below the largest, and their sum."""
    axis = w.constant("axes.1", [1], "int64")
    largest = w.node("ReduceMax", name + "_largest", [*x, axis], name + "_largest", keepdims=1)
    below = w.node("Sub", name + "_below", [*x, largest], name + "_below")
    powers = w.node("Exp", name + "_powers", [below], name + "_powers")
    total = w.node("ReduceSum", name + "_total", [powers, axis], name + "_total", keepdims=1)
    return powers, total


def _plain(kind: str, **attributes: Any) -> Callable[[_Writer, str, Any, Names, str], None]:
    """An operation that is one node with the same inputs."""

    def write(w: _Writer, name: str, op: Any, x: Names, y: str) -> None:
        w.node(kind, name, x, y, **attributes)

    return write


WRITERS: dict[type, Callable[[_Writer, str, Any, Names, str], None]] = {
    ops.Conv: _conv,
    ops.Deconv: _deconv,
    ops.Affine: _affine,
    ops.PReLU: _prelu,
    ops.Concat: _plain("Concat", axis=1),
    ops.Add: _plain("Add"),
    ops.Mul: _plain("Mul"),
    ops.AvgPool: _avg_pool,
    ops.GlobalMean: _reduce("ReduceMean", 2, 3),
    ops.Upsample: _upsample,
    ops.Permute: _permute,
    ops.Softmax: _softmax,
    ops.MaxChannel: _reduce("ReduceMax", 1),
    ops.Sigmoid: _plain("Sigmoid"),
    ops.Abs: _plain("Abs"),
    ops.Positives: _plain("Relu"),
    ops.Negatives: _negatives,
    ops.DepthToSpace: _depth_to_space,
    ops.FirstChannels: _first_channels,
    ops.ArgMax: _arg_max,
    ops.Positive: _positive,
    ops.FromImage: _from_image,
    FakeQuantise: _fake_quantise,
    QuantisedConv: _quantised_conv,
}
