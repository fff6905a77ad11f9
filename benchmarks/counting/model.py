"""Counts from PyTorch: one walk over the graph that ``torch.export`` captures."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import cast

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.fx import Node
from torch.utils.flop_counter import conv_flop_count

from lightseg.benchmarks.counting.cost import CONVOLUTIONS, Constant, Cost, Kind, Op, Role, Tensor, total
from lightseg.errors import Unsupported

aten = torch.ops.aten

KINDS: dict[object, Kind] = {
    aten.conv2d.default: "conv",
    aten.conv_transpose2d.input: "transposed conv",
    aten.linear.default: "linear",
    aten.batch_norm.default: "norm",
    aten.prelu.default: "activation",
    aten.relu.default: "activation",
    aten.sigmoid.default: "activation",
    aten.softmax.int: "activation",
    aten.add.Tensor: "elementwise",
    aten.sub.Tensor: "elementwise",
    aten.rsub.Scalar: "elementwise",
    aten.mul.Tensor: "elementwise",
    aten.div.Tensor: "elementwise",
    aten.upsample_bilinear2d.vec: "resize",
    aten.avg_pool2d.default: "pool",
    aten.mean.dim: "pool",
    aten.amax.default: "pool",
    aten.cat.default: "concat",
    aten.to.dtype: "cast",
}
COMPUTES = ("aten::mm", "aten::addmm", "aten::bmm", "aten::matmul", "aten::conv1d", "aten::conv3d", "aten::convolution")
"""Operators with MACs that the five networks do not use; counting them as free would be a lie."""

SLOTS: dict[object, tuple[tuple[int, Role], ...]] = {
    aten.conv2d.default: ((1, "weight"), (2, "bias")),
    aten.conv_transpose2d.input: ((1, "weight"), (2, "bias")),
    aten.linear.default: ((1, "weight"), (2, "bias")),
    aten.batch_norm.default: ((1, "affine"), (2, "affine"), (3, "buffer"), (4, "buffer")),
    aten.prelu.default: ((1, "slope"),),
}


def count_model(model: nn.Module, size: tuple[int, int], batch: int = 1, name: str | None = None) -> Cost:
    """The cost of ``model`` in evaluation mode for a batch×3×height×width float32 input. Nothing is computed.

    ``name`` is what the result calls itself.

    MACs come from ``torch.utils.flop_counter``'s formula for convolutions (which counts a multiply and an add as two
    flops: halved here). Errors: `Unsupported` for an operator that multiplies and accumulates but has no rule.
    """
    source = name or str(getattr(model, "name", type(model).__name__))
    return count_called(model, torch.empty(batch, 3, *size), source)


def count_called(model: nn.Module, image: torch.Tensor, source: str) -> Cost:
    """The cost of calling ``model`` with ``image``, whose values do not matter; see `count_model`."""
    program = torch.export.export(model.eval(), (image,))
    signature = program.graph_signature
    tensors = {node.name: _tensor(node) for node in _activations(program)}
    ops = [_op(node, program) for node in program.graph.nodes if node.op == "call_function" and node.name in tensors]
    return total(source, ops, tensors, signature.user_inputs, signature.user_outputs)


def _activations(program: ExportedProgram) -> Iterator[Node]:
    inputs = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        is_input = node.op == "placeholder" and node.name in inputs
        if is_input or (node.op == "call_function" and isinstance(node.meta.get("val"), torch.Tensor)):
            yield node


def _tensor(node: Node) -> Tensor:
    value = cast(torch.Tensor, node.meta["val"])
    return Tensor(tuple(value.shape), value.numel() * value.element_size())


def _op(node: Node, program: ExportedProgram) -> Op:
    signature = program.graph_signature
    stored = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    sources = [source for source in node.all_input_nodes if source.name not in stored]
    constants = tuple(_constants(node, stored))
    kind = _kind(node)
    return Op(
        name=_where(node),
        op=str(node.target),
        kind=kind,
        inputs=tuple(source.name for source in sources),
        outputs=(node.name,),
        constants=constants,
        macs=_macs(node, kind),
        taps=prod(node.args[1].meta["val"].shape[2:]) if kind in CONVOLUTIONS else 1,  # type: ignore[union-attr]
    )


def _constants(node: Node, stored: dict[str, str]) -> Iterator[Constant]:
    roles = dict(SLOTS.get(node.target, ()))
    for slot, argument in enumerate(node.args):
        if isinstance(argument, Node) and argument.name in stored:
            value = argument.meta["val"]
            role: Role = roles.get(slot, "affine") if value.is_floating_point() else "constant"
            yield Constant(stored[argument.name], role, value.numel(), _tensor(argument).bytes)


def _kind(node: Node) -> Kind:
    target = node.target
    if target == aten.conv2d.default:
        weight = node.args[1].meta["val"]  # type: ignore[union-attr]
        groups = node.args[6] if len(node.args) > 6 else 1
        return "depthwise" if weight.shape[1] == 1 and cast(int, groups) > 1 else "conv"
    if target in KINDS:
        return KINDS[target]
    schema = target._schema  # type: ignore[union-attr]
    if schema.name in COMPUTES:
        raise Unsupported(f"no rule to count the MACs of {schema.name}; add one to lightseg.benchmarks.counting.model")
    if schema.name == "aten::reshape":
        source = node.args[0].meta["val"]  # type: ignore[union-attr]
        return "view" if source.is_contiguous() else "layout"
    aliases = any(result.alias_info is not None for result in schema.returns)
    return "view" if aliases else "other"


def _macs(node: Node, kind: Kind) -> int:
    if kind not in ("conv", "depthwise", "transposed conv", "linear"):
        return 0
    data, weight = (argument.meta["val"].shape for argument in node.args[:2])  # type: ignore[union-attr]
    output = node.meta["val"].shape
    if kind == "linear":
        return int(output.numel() * weight[1])
    return conv_flop_count(data, weight, output, transposed=kind == "transposed conv") // 2


def _where(node: Node) -> str:
    """The dotted path of the module that ran this operator, without the wrapper's own prefix."""
    stack = [path for path, _ in node.meta.get("nn_module_stack", {}).values() if path]
    return stack[-1].removeprefix("net.") if stack else node.name
