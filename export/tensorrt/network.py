"""A parsed network as plain data: every layer with its kind, its attributes, and the names and types of its values.

The library's objects say only what every layer has; what a convolution is must be asked of the object as the class of
its kind, whose ``type`` then means another thing. This is read once, here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lightseg.errors import BadInput, Unsupported
from lightseg.export.tensorrt.vendor import Parsed, parse

Shape = tuple[int, ...]

ORIGIN = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
"""How the library notes which nodes of the ONNX graph a layer comes from."""
CLASSES = {
    "ELEMENTWISE": "ElementWise", "PARAMETRIC_RELU": "ParametricReLU", "SOFTMAX": "SoftMax", "TOPK": "TopK",
    "MATRIX_MULTIPLY": "MatrixMultiply",
}  # fmt: skip
"""Where the class is not named after the kind as usual."""
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "CONVOLUTION": ("kernel", "bias", "num_output_maps", "num_groups", "kernel_size_nd", "stride_nd", "dilation_nd",
                    "pre_padding", "post_padding", "padding_mode"),
    "DECONVOLUTION": ("kernel", "bias", "num_output_maps", "num_groups", "kernel_size_nd", "stride_nd", "dilation_nd",
                      "pre_padding", "post_padding", "padding_mode"),
    "CONSTANT": ("weights", "shape"),
    "PARAMETRIC_RELU": (),
    "ACTIVATION": ("type", "alpha", "beta"),
    "SHUFFLE": ("first_transpose", "reshape_dims", "second_transpose", "zero_is_placeholder"),
    "SCALE": ("mode", "shift", "scale", "power", "channel_axis"),
    "ELEMENTWISE": ("op",),
    "UNARY": ("op",),
    "CONCATENATION": ("axis",),
    "RESIZE": ("resize_mode", "coordinate_transformation", "scales", "selector_for_single_pixel", "nearest_rounding"),
    "POOLING": ("type", "window_size_nd", "stride_nd", "pre_padding", "post_padding", "padding_mode",
                "average_count_excludes_padding"),
    "MATRIX_MULTIPLY": ("op0", "op1"),
    "SOFTMAX": ("axes",),
    "REDUCE": ("op", "axes", "keep_dims"),
    "TOPK": ("op", "axes", "k"),
    "GATHER": ("mode", "axis", "num_elementwise_dims"),
    "SLICE": ("start", "shape", "stride", "axes", "mode"),
    "SQUEEZE": (),
    "UNSQUEEZE": (),
    "IDENTITY": (),
    "CAST": ("to_type",),
    "QUANTIZE": ("axis",),
    "DEQUANTIZE": ("axis",),
}  # fmt: skip
"""What is read of each kind of layer; every other kind is refused by name."""


@dataclass(frozen=True)
class Value:
    """One tensor between layers; ``element`` is the library's word, ``FLOAT``, ``HALF``, ``INT8`` and so on."""

    name: str
    element: str
    shape: Shape


@dataclass(frozen=True)
class Step:
    """One layer."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    """Names of values; empty where an input before the last is left out."""
    outputs: tuple[Value, ...]
    attributes: dict[str, Any] = field(default_factory=dict, repr=False)
    origin: str = ""
    """The node of the ONNX graph it was made for."""

    @property
    def what(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Walked:
    """A network of one input and one output; ``steps`` are in the order of execution."""

    input: Value
    output: Value
    steps: tuple[Step, ...]
    version: str
    """Of the parser's package."""


def read_network(module: str, data: bytes, what: str) -> Walked:
    """An ONNX model as the vendor's parser reads it. Errors: `BadInput`, `Unsupported` as in `parse` and `walk`."""
    return walk(parse(module, data, what), what)


def walk(parsed: Parsed, what: str) -> Walked:
    """Errors: `Unsupported` names the first layer outside the set; `BadInput` where two values have one name."""
    network = parsed.network
    if (network.num_inputs, network.num_outputs) != (1, 1):
        raise BadInput(
            f"{what}: a network of {network.num_inputs} inputs and {network.num_outputs} outputs; export it again"
        )
    steps = tuple(_step(parsed.trt, network.get_layer(i), what) for i in range(network.num_layers))
    first, last = _value(network.get_input(0)), _value(network.get_output(0))
    names = [first.name, *(value.name for step in steps for value in step.outputs)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadInput(f"{what}: two values are called {twice}; export it again")
    return Walked(first, last, steps, parsed.trt.__version__)


def _step(trt: Any, layer: Any, what: str) -> Step:
    kind, name, origin = layer.type.name, layer.name, ORIGIN.search(layer.metadata or "")
    if kind not in ATTRIBUTES:
        raise Unsupported(f"{what}: the layer {kind} ({name}) is outside what the reference interpreter runs")
    inputs = [layer.get_input(i) for i in range(layer.num_inputs)]
    outputs = tuple(_value(layer.get_output(i)) for i in range(layer.num_outputs))
    layer.__class__ = getattr(trt, f"I{CLASSES.get(kind, kind.title().replace('_', ''))}Layer")
    attributes = {attribute: _plain(getattr(layer, attribute)) for attribute in ATTRIBUTES[kind]}
    names = tuple("" if tensor is None else tensor.name for tensor in inputs)
    return Step(kind, name, names, outputs, attributes, origin[1] if origin else name)


def _value(tensor: Any) -> Value:
    return Value(tensor.name, tensor.dtype.name, tuple(int(d) for d in tensor.shape))


def _plain(value: Any) -> Any:
    """An attribute as a number, a word, a tuple, an array of its own or nothing."""
    if isinstance(value, np.ndarray):
        return np.array(value)
    if hasattr(type(value), "__members__"):
        return value.name
    return value if value is None or isinstance(value, bool | int | float) else tuple(value)
