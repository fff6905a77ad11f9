"""What every format's operators are for counting: one vocabulary for ONNX, TFLite, OpenVINO, ncnn and their runtimes.

Names are compared without case, underscores and dimensions: ``DEPTHWISE_CONV_2D``, ``Conv`` and ``conv2d`` are one
style each of the same words.
"""

from __future__ import annotations

from lightseg.benchmarks.counting.cost import Kind, Role
from lightseg.errors import Unsupported

NAMES: dict[Kind, str] = {
    "conv": "conv convolution fusedconv groupconvolution convolutiondepthwise",
    "depthwise": "depthwiseconv",
    "transposed conv": "convtranspose transposeconv convolutiontransposebias convolutionbackpropdata deconvolution "
    "groupconvolutionbackpropdata",
    "linear": "gemm fusedgemm matmul fullyconnected innerproduct",
    "norm": "batchnormalization batchnorm batchnorminference",
    "activation": "prelu relu relu6 sigmoid logistic softmax leakyrelu hardsigmoid hardswish clip clamp",
    "elementwise": "add sub subtract mul multiply div divide min minimum max maximum neg negative abs absval where "
    "select selectv2 greater threshold binaryop unaryop scale subgraph eltwise",
    "resize": "resize resizebilinear resizenearestneighbor interpolate interp upsample",
    "pool": "averagepool maxpool globalaveragepool avgpool pooling mean reducemean reducemax sum reducesum reduction",
    "concat": "concat concatenation",
    "layout": "transpose gather depthtospace spacetodepth slice stridedslice pad reorder reorderinput reorderoutput "
    "crop shufflechannel pixelshuffle permute split variadicsplit",
    "view": "reshape flatten squeeze unsqueeze expanddims identity noop",
    "cast": "cast quantize dequantize quantizelinear dequantizelinear convert fakequantize",
}  # fmt: skip
KINDS: dict[str, Kind] = {name: kind for kind, names in NAMES.items() for name in names.split()}
UNCOUNTED = {
    "convinteger", "qlinearconv", "qlinearmatmul", "matmulinteger", "einsum", "lstm", "gru", "attention", "batchmatmul",
    "conv3d", "convolution3d", "conv3dtranspose", "unidirectionalsequencelstm", "svdf", "rnn", "deformableconvolution",
    "binaryconvolution", "lstmcell", "lstmsequence", "grusequence", "convolution1d", "deconvolution3d",
    "multiheadattention",
}  # fmt: skip
"""Operators with MACs that have no rule; counting them as free would be a lie."""
ROLES: dict[Kind, tuple[Role, ...]] = {
    "conv": ("constant", "weight", "bias"),
    "depthwise": ("constant", "weight", "bias"),
    "transposed conv": ("constant", "weight", "bias"),
    "linear": ("constant", "weight", "bias"),
    "norm": ("constant", "affine", "affine", "buffer", "buffer"),
}
"""What an operator uses the constants in its places for."""
AFFINE = {"add", "sub", "subtract", "mul", "multiply", "div", "divide"}
"""Operators whose per-channel constant is half of an affine."""


def plain(op: str) -> str:
    """The operator's name without case, underscores and dimensions."""
    return op.lower().replace("_", "").replace("2d", "")


def kind_of(op: str, counter: str = "") -> Kind:
    """What counts ``op`` belongs to. Errors: `Unsupported` for one with MACs but no rule, naming ``counter``."""
    name = plain(op)
    if counter and name in UNCOUNTED:
        raise Unsupported(f"no rule to count the MACs of {op}; add one to {counter}")
    return KINDS.get(name, "other")


def roles(op: str) -> tuple[Role, ...]:
    """What ``op`` uses the constants in its places for; places beyond them hold plain constants."""
    name = plain(op)
    return ("constant", "slope") if name == "prelu" else ROLES.get(KINDS.get(name, "other"), ())
