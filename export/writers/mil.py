"""The intermediate form as a Core ML ML Program, through coremltools' builder and without its torch front end."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from lightseg.errors import Unsupported
from lightseg.export.graph import ops
from lightseg.export.graph.quantised import FakeQuantise, QuantisedConv
from lightseg.export.graph.shapes import Shape
from lightseg.export.mil.package import settle

DEPLOYMENT = "iOS15"
INT8_DEPLOYMENT = "iOS17"
"""The first that quantises values while it runs."""
PASSES = ("common::const_deduplication", "common::dead_code_elimination")
"""Nothing that changes arithmetic. One of the usual passes, `common::fuse_elementwise_to_batchnorm`, puts an eps of
1e-5 under a variance of one, which cost ExtremeC3Net three digits. A conversion consumes the pipeline object it is
given: one that is used twice silently lacks passes the second time."""


def write_mil(
    graph: fx.GraphModule,
    input_shape: Shape,
    output_name: str,
    path: Path,
    half: bool = False,
    deployment: str = DEPLOYMENT,
) -> None:
    """Save the package ``path`` for deployment target ``deployment`` (iOS15 … iOS18) and later.

    ``input_shape`` is N×3×H×W. A graph that takes images gets an RGB image input, which Core ML itself turns into
    N×3×H×W numbers from 0 to 255. With ``half``, constants and arithmetic are float16 between a float32 input and a
    float32 output. The input is called ``image``, after the parameter below.

    Errors: `Unsupported` when a constant does not fit float16.
    """
    with quiet():
        import coremltools as ct
        from coremltools.converters.mil import Builder

        target = getattr(ct.target, deployment)
        writer = _Writer(graph, Builder, np.float16 if half else np.float32)

        @Builder.program(input_specs=[Builder.TensorSpec(shape=input_shape)], opset_version=target)  # type: ignore[untyped-decorator]
        def program(image: Any) -> Any:
            return writer.write(image, output_name)

        kind = ct.ImageType("image", input_shape, color_layout=ct.colorlayout.RGB) if writer.takes_images else None
        model = ct.convert(
            program,
            convert_to="mlprogram",
            inputs=[kind] if kind else None,
            minimum_deployment_target=target,
            compute_precision=ct.precision.FLOAT32,
            pass_pipeline=ct.PassPipeline(list(PASSES)),
            skip_model_load=True,
        )
        model.save(str(path))
    settle(path)


@contextmanager
def quiet() -> Iterator[None]:
    """coremltools draws progress bars, warns of parts that are not used here and leaves temporary folders to chance."""
    logger = logging.getLogger("coremltools")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            warnings.simplefilter("ignore", DeprecationWarning)  # of executorch, which it imports where it is installed
            yield
    finally:
        logger.setLevel(before)


class _Writer:
    def __init__(self, graph: fx.GraphModule, builder: Any, dtype: Any) -> None:
        self.graph, self.mb, self.dtype = graph, builder, dtype
        self.takes_images = any(isinstance(m, ops.FromImage) for m in graph.children())
        self.values: dict[fx.Node, Any] = {}

    @property
    def half(self) -> bool:
        return bool(self.dtype is np.float16)

    def write(self, image: Any, output_name: str) -> Any:
        last = next(n for n in self.graph.graph.nodes if n.op == "output").args[0]
        for node in self.graph.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = self.mb.cast(x=image, dtype="fp16", name="image_fp16") if self.half else image
            elif node.op == "call_module":
                op = self.graph.get_submodule(str(node.target))
                back = self.half and node is last and not isinstance(op, ops.ArgMax | ops.Positive)
                name = output_name if node is last and not back else node.name
                result = WRITERS[type(op)](self, name, op, [self.values[a] for a in node.args])
                self.values[node] = self.mb.cast(x=result, dtype="fp32", name=output_name) if back else result
        return self.values[last]

    def array(self, name: str, values: Tensor | NDArray[Any]) -> NDArray[Any]:
        """A floating-point constant in the program's precision."""
        wide = np.asarray(values, np.float64)
        limit = float(np.finfo(self.dtype).max)
        if wide.size and np.abs(wide).max() > limit:
            raise Unsupported(
                f"{name} has a weight of {np.abs(wide).max():.6g}, beyond the {limit:g} that "
                f"{np.dtype(self.dtype)} holds; export it with --precision fp32"
            )
        return np.ascontiguousarray(wide, self.dtype)

    def weight(self, name: str, op: ops.Conv) -> Any:
        """The kernel of a convolution; a quantised one's stays int8 in the file, behind what says what it is worth."""
        if not isinstance(op, QuantisedConv):
            return self.array(name, op.weight)
        integers = op.integer_weight().numpy()
        return self.mb.constexpr_affine_dequantize(
            quantized_data=integers,
            zero_point=np.zeros(len(integers), np.int8),
            scale=self.array(name, op.weight_scale),
            axis=np.int32(0),
            name=name + "_weight",
        )

    def bias(self, name: str, op: ops.Conv | ops.Deconv) -> dict[str, Any]:
        return {} if op.bias is None else {"bias": self.array(name, op.bias)}


Inputs = Sequence[Any]


def _conv(w: _Writer, name: str, op: ops.Conv, x: Inputs) -> Any:
    (vertical, horizontal), weight = op.padding, w.weight(name, op)
    return w.mb.conv(
        x=x[0],
        weight=weight,
        strides=op.stride,
        pad_type="custom",
        pad=[vertical, vertical, horizontal, horizontal],
        dilations=op.dilation,
        groups=op.groups,
        name=name,
        **w.bias(name, op),
    )


def _fake_quantise(w: _Writer, name: str, op: FakeQuantise, x: Inputs) -> Any:
    """To int8 and back; Core ML clips to all that int8 holds."""
    if (op.low, op.high) != (-128, 127):
        raise Unsupported(f"{name} quantises to {op.low}…{op.high}; Core ML's int8 is -128…127")
    grid = {"scale": w.dtype(float(op.scale)), "zero_point": np.int8(op.zero_point)}
    integers = w.mb.quantize(input=x[0], output_dtype="int8", name=name + "_integers", **grid)
    return w.mb.dequantize(input=integers, name=name, **grid)


def _deconv(w: _Writer, name: str, op: ops.Deconv, x: Inputs) -> Any:
    n, _, height, width = x[0].shape
    _, channels, kh, kw = op.weight.shape
    return w.mb.conv_transpose(
        x=x[0],
        weight=w.array(name, op.weight),
        strides=[kh, kw],
        pad_type="valid",
        output_shape=[n, channels, height * kh, width * kw],
        name=name,
        **w.bias(name, op),
    )


def _affine(w: _Writer, name: str, op: ops.Affine, x: Inputs) -> Any:
    """Multiplication and addition as two operations, never a batch norm with its eps; what does nothing is left out."""
    scale, shift = (w.array(name, v[None, :, None, None]) for v in (op.scale, op.shift))
    if not shift.any():
        return w.mb.mul(x=x[0], y=scale, name=name)
    scaled = w.mb.mul(x=x[0], y=scale, name=name + "_scaled") if (scale != 1).any() else x[0]
    return w.mb.add(x=scaled, y=shift, name=name)


def _prelu(w: _Writer, name: str, op: ops.PReLU, x: Inputs) -> Any:
    return w.mb.prelu(x=x[0], alpha=w.array(name, op.slope), name=name)


def _avg_pool(w: _Writer, name: str, op: ops.AvgPool, x: Inputs) -> Any:
    window = [op.factor, op.factor]
    return w.mb.avg_pool(x=x[0], kernel_sizes=window, strides=window, pad_type="valid", name=name)


def _upsample(w: _Writer, name: str, op: ops.Upsample, x: Inputs) -> Any:
    """Samples at half pixels are what the operation means without aligned corners; later opsets ask for it by name."""
    scale = float(op.factor)
    return w.mb.upsample_bilinear(
        x=x[0], scale_factor_height=scale, scale_factor_width=scale, align_corners=op.align_corners, name=name
    )


def _permute(w: _Writer, name: str, op: ops.Permute, x: Inputs) -> Any:
    """A channel shuffle as reshape, transpose, reshape, which every unit of the hardware takes; else a gather."""
    groups = shuffle_groups(op.index)
    if groups is None:
        return w.mb.gather(x=x[0], indices=op.index.numpy().astype(np.int32), axis=1, name=name)
    n, channels, height, width = x[0].shape
    split = w.mb.reshape(x=x[0], shape=[n, groups, channels // groups, height, width], name=name + "_split")
    swapped = w.mb.transpose(x=split, perm=[0, 2, 1, 3, 4], name=name + "_swapped")
    return w.mb.reshape(x=swapped, shape=[n, channels, height, width], name=name)


def shuffle_groups(index: Tensor) -> int | None:
    """The number of groups where ``index`` is a channel shuffle; None where it is any other order."""
    channels = len(index)
    for groups in range(2, channels):
        if channels % groups == 0 and torch.equal(index, torch.arange(channels).view(groups, -1).T.reshape(-1)):
            return groups
    return None


def _first_channels(w: _Writer, name: str, op: ops.FirstChannels, x: Inputs) -> Any:
    return w.mb.slice_by_size(x=x[0], begin=[0, 0, 0, 0], size=[-1, op.count, -1, -1], name=name)


def _arg_max(w: _Writer, name: str, op: ops.ArgMax, x: Inputs) -> Any:
    return w.mb.reduce_argmax(x=x[0], axis=1, keep_dims=True, name=name)


def _positive(w: _Writer, name: str, op: ops.Positive, x: Inputs) -> Any:
    above = w.mb.greater(x=x[0], y=w.dtype(0), name=name + "_above")
    return w.mb.cast(x=above, dtype="int32", name=name)


def _negatives(w: _Writer, name: str, op: ops.Negatives, x: Inputs) -> Any:
    return w.mb.minimum(x=x[0], y=w.dtype(0), name=name)


def _depth_to_space(w: _Writer, name: str, op: ops.DepthToSpace, x: Inputs) -> Any:
    return w.mb.depth_to_space(x=x[0], block_size=op.block, name=name)


def _from_image(w: _Writer, name: str, op: ops.FromImage, x: Inputs) -> Any:
    """Core ML has made the planes already."""
    return x[0]


def _plain(kind: str, *parameters: str, **options: Any) -> Callable[[_Writer, str, Any, Inputs], Any]:
    """One operation whose ``parameters`` are the inputs in order."""

    def write(w: _Writer, name: str, op: Any, x: Inputs) -> Any:
        return getattr(w.mb, kind)(**dict(zip(parameters, x)), **options, name=name)

    return write


def _concat(w: _Writer, name: str, op: ops.Concat, x: Inputs) -> Any:
    return w.mb.concat(values=list(x), axis=1, name=name)


WRITERS: dict[type, Callable[[_Writer, str, Any, Inputs], Any]] = {
    ops.Conv: _conv,
    QuantisedConv: _conv,
    FakeQuantise: _fake_quantise,
    ops.Deconv: _deconv,
    ops.Affine: _affine,
    ops.PReLU: _prelu,
    ops.Concat: _concat,
    ops.Add: _plain("add", "x", "y"),
    ops.Mul: _plain("mul", "x", "y"),
    ops.AvgPool: _avg_pool,
    ops.GlobalMean: _plain("reduce_mean", "x", axes=[2, 3], keep_dims=True),
    ops.Upsample: _upsample,
    ops.Permute: _permute,
    ops.Softmax: _plain("softmax", "x", axis=1),
    ops.MaxChannel: _plain("reduce_max", "x", axes=[1], keep_dims=True),
    ops.Sigmoid: _plain("sigmoid", "x"),
    ops.Abs: _plain("abs", "x"),
    ops.Positives: _plain("relu", "x"),
    ops.Negatives: _negatives,
    ops.DepthToSpace: _depth_to_space,
    ops.FirstChannels: _first_channels,
    ops.ArgMax: _arg_max,
    ops.Positive: _positive,
    ops.FromImage: _from_image,
}
