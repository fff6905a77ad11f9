"""Exact rewrites of the intermediate form: the same function of the image, in fewer or cheaper steps.

A rewrite is a function that changes a graph in place and returns how many places it changed. It is exact in real
arithmetic; in float64 it moves the logits by rounding alone. Which of them pay is a property of the target, stated in
the target's file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import fx

from lightseg.export.rewrites.affine_as_depthwise import affine_as_depthwise
from lightseg.export.rewrites.blend_prelu import blend_prelu
from lightseg.export.rewrites.by_rows import by_rows
from lightseg.export.rewrites.concat_as_sum import concat_as_sum
from lightseg.export.rewrites.conv_before_upsample import conv_before_upsample
from lightseg.export.rewrites.deconv_to_depth import deconv_to_depth
from lightseg.export.rewrites.dense_groups import dense_groups
from lightseg.export.rewrites.drop_channels import drop_channels
from lightseg.export.rewrites.drop_constant import drop_constant
from lightseg.export.rewrites.even_channels import even_channels
from lightseg.export.rewrites.fill_lanes import fill_lanes, fill_packing
from lightseg.export.rewrites.fold_affine import fold_affine
from lightseg.export.rewrites.late_concat import late_concat
from lightseg.export.rewrites.merge_cross import merge_cross
from lightseg.export.rewrites.merge_pointwise import merge_pointwise
from lightseg.export.rewrites.pack_columns import pack_columns
from lightseg.export.rewrites.pool_before_conv import pool_before_conv
from lightseg.export.rewrites.push_affine import push_affine
from lightseg.export.rewrites.push_permute import push_permute
from lightseg.export.rewrites.push_scale import push_scale
from lightseg.export.rewrites.split_depthwise import split_depthwise
from lightseg.export.rewrites.split_mean import split_mean
from lightseg.export.rewrites.split_prelu import split_prelu
from lightseg.export.rewrites.turn_steep import turn_steep
from lightseg.export.rewrites.two_class_gate import two_class_gate
from lightseg.export.rewrites.widen_gate import widen_gate

__all__ = [
    "ALWAYS",
    "REWRITES",
    "Rewrite",
    "affine_as_depthwise",
    "blend_prelu",
    "by_rows",
    "concat_as_sum",
    "conv_before_upsample",
    "deconv_to_depth",
    "dense_groups",
    "drop_channels",
    "drop_constant",
    "even_channels",
    "fill_lanes",
    "fill_packing",
    "fold_affine",
    "for_int8",
    "late_concat",
    "merge_cross",
    "merge_pointwise",
    "pack_columns",
    "pool_before_conv",
    "push_affine",
    "push_permute",
    "push_scale",
    "rewrite",
    "split_depthwise",
    "split_mean",
    "split_prelu",
    "turn_steep",
    "two_class_gate",
    "widen_gate",
]

Rewrite = Callable[[fx.GraphModule], int]

ALWAYS: tuple[Rewrite, ...] = (
    drop_constant,
    drop_channels,
    fold_affine,
    push_affine,
    conv_before_upsample,
    pool_before_conv,
    merge_pointwise,
    push_permute,
    push_scale,
    two_class_gate,
    split_mean,
)
"""What pays, or costs nothing, on every target."""

REWRITES: tuple[Rewrite, ...] = (
    *ALWAYS,
    merge_cross,
    split_depthwise,
    dense_groups,
    deconv_to_depth,
    concat_as_sum,
    late_concat,
    pack_columns,
    widen_gate,
    by_rows,
    affine_as_depthwise,
    even_channels,
    fill_lanes,
    fill_packing,
    turn_steep,
    blend_prelu,
    split_prelu,
)


ENDLESS = 10_000
"""More rounds than any network takes: the largest here is done after some hundreds."""


def for_int8(rules: Sequence[Rewrite]) -> tuple[Rewrite, ...]:
    """``rules`` without those that make convolutions of other operations: what is a convolution will be quantised.

    So would a PReLU (`blend_prelu`; `split_prelu` takes its place) and a mean of pixels (`even_channels`), and the mean
    would fall to the other side of every tie. A sum in place of a concatenation (`concat_as_sum`) would be one rounding
    more.
    """
    kept = (split_prelu if rule is blend_prelu else rule for rule in rules)
    return tuple(rule for rule in kept if rule not in (even_channels, concat_as_sum))


def rewrite(graph: fx.GraphModule, rewrites: Sequence[Rewrite]) -> dict[str, int]:
    """Apply ``rewrites`` until none of them finds anything; return the changes by name.

    The first ones have precedence: a rewrite gets a graph in which those before it find nothing more. So what changes
    the form of an operation that others look for, as `blend_prelu` does, belongs at the end.
    """
    changes = {r.__name__: 0 for r in rewrites}
    for _ in range(ENDLESS):
        if not any(_found(graph, r, changes) for r in rewrites):
            break
        graph.graph.eliminate_dead_code()
    else:
        raise RuntimeError(f"two rewrites undo each other: {changes}")
    graph.delete_all_unused_submodules()
    graph.graph.lint()
    graph.recompile()
    return changes


def _found(graph: fx.GraphModule, rule: Rewrite, changes: dict[str, int]) -> bool:
    count = rule(graph)
    changes[rule.__name__] += count
    return count > 0
