"""Layers of every kind made through the vendor's own interface, and a program of one, for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightseg.export.tensorrt.interpreter import Program
from lightseg.export.tensorrt.network import walk
from lightseg.export.tensorrt.vendor import Parsed, Said, logger, vendor

MODULE = "tensorrt_rtx"
SHAPE = (1, 6, 8, 12)
Make = Callable[[Any, Any, Any], Any]
"""From the vendor's module, a network and its input to the last layer."""


def seeded(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def array(values: Tensor) -> Any:
    return np.ascontiguousarray(values.numpy())


def constant(n: Any, values: Tensor) -> Any:
    return n.add_constant(tuple(values.shape), array(values)).get_output(0)


def program(make: Make, shape: tuple[int, ...] = SHAPE, output: int = 0) -> Program:
    trt, said = vendor(MODULE), Said()
    log = logger(trt, said)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    x = network.add_input("image", trt.float32, shape)
    last = make(trt, network, x)
    assert last is not None, said.errors()
    network.mark_output(last.get_output(output))
    parsed = Parsed(trt, network, builder, said, (log,))
    return Program(Path("made"), walk(parsed, "made"))


W, B = seeded(4, 6, 3, 5), seeded(4)
DW = seeded(6, 1, 3, 3)
TW = seeded(6, 4, 2, 2)
SLOPES = torch.linspace(-3.6, 4.8, 6)[None, :, None, None]
SCALES = torch.linspace(0.01, 0.06, 6)
INDEX = torch.tensor([5, 0, -3, 3], dtype=torch.int32)
SIDE = seeded(1, 6, 12, 5)


def conv(trt: Any, n: Any, x: Any) -> Any:
    layer = n.add_convolution_nd(x, 4, (3, 5), array(W), array(B))
    layer.stride_nd, layer.dilation_nd = (2, 1), (1, 2)
    layer.pre_padding, layer.post_padding = (0, 1), (2, 3)
    return layer


def depthwise(trt: Any, n: Any, x: Any) -> Any:
    layer = n.add_convolution_nd(x, 6, (3, 3), array(DW))
    layer.num_groups = 6
    return layer


def deconv(trt: Any, n: Any, x: Any) -> Any:
    layer = n.add_deconvolution_nd(x, 4, (2, 2), array(TW), array(B))
    layer.stride_nd = (2, 2)
    return layer


def activation(kind: str, alpha: float = 0.0, beta: float = 0.0) -> Make:
    def make(trt: Any, n: Any, x: Any) -> Any:
        layer = n.add_activation(x, getattr(trt.ActivationType, kind))
        layer.alpha, layer.beta = alpha, beta
        return layer

    return make


def pool(kind: str, **attributes: Any) -> Make:
    def make(trt: Any, n: Any, x: Any) -> Any:
        layer = n.add_pooling_nd(x, getattr(trt.PoolingType, kind), (4, 2))
        for name, value in attributes.items():
            setattr(layer, name, value)
        return layer

    return make


def shuffle(trt: Any, n: Any, x: Any) -> Any:
    """The channel shuffle, as some writers have it; a nought keeps the size of its axis."""
    layer = n.add_shuffle(x)
    layer.first_transpose = trt.Permutation([0, 2, 3, 1])
    layer.reshape_dims, layer.second_transpose = (0, 96, 3, 2), trt.Permutation([0, 3, 2, 1])
    return layer


def resize(where: str, *scales: float) -> Make:
    def make(trt: Any, n: Any, x: Any) -> Any:
        layer = n.add_resize(x)
        layer.resize_mode, layer.scales = trt.InterpolationMode.LINEAR, [1, 1, *scales]
        layer.coordinate_transformation = getattr(trt.ResizeCoordinateTransformation, where)
        return layer

    return make


def binary(kind: str) -> Make:
    return lambda trt, n, x: n.add_elementwise(x, constant(n, SLOPES + 5), getattr(trt.ElementWiseOperation, kind))


def unary(kind: str) -> Make:
    return lambda trt, n, x: n.add_unary(x, getattr(trt.UnaryOperation, kind))


def reduce(kind: str, axes: int, keep: bool) -> Make:
    return lambda trt, n, x: n.add_reduce(x, getattr(trt.ReduceOperation, kind), axes, keep)


def scale(trt: Any, n: Any, x: Any) -> Any:
    shift, scale = array(SCALES * 7), array(SCALES)
    return n.add_scale(x, trt.ScaleMode.CHANNEL, shift, scale, trt.Weights())


def quantised(n: Any, x: Any, trt: Any, scale: Tensor) -> Any:
    layer = n.add_quantize(x, constant(n, scale), trt.int8)
    layer.axis = 1
    back = n.add_dequantize(layer.get_output(0), constant(n, scale), trt.float32)
    back.axis = 1
    return back


def softmax(trt: Any, n: Any, x: Any) -> Any:
    layer = n.add_softmax(x)
    layer.axes = 1 << 1
    return layer


def axes(n: Any, *axes: int) -> Any:
    return constant(n, torch.tensor(axes, dtype=torch.int64))


def matrices(trt: Any, n: Any, x: Any) -> Any:
    transposed = trt.MatrixOperation.TRANSPOSE
    return n.add_matrix_multiply(constant(n, SIDE), transposed, x, transposed)


def concat(trt: Any, n: Any, x: Any) -> Any:
    layer = n.add_concatenation([x, constant(n, seeded(1, 2, 8, 12))])
    layer.axis = 1
    return layer
