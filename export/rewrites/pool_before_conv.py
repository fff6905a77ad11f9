"""A 1×1 convolution commutes with average pooling, and is cheaper behind it."""

from __future__ import annotations

from torch import fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import insert, op_of
from lightseg.export.rewrites.conv_before_upsample import is_pointwise


def pool_before_conv(graph: fx.GraphModule) -> int:
    """1×1 convolution → pools becomes pool → 1×1 convolution → what the larger pools have left to do.

    Taken where pools alone read the convolution and the smallest window divides the others.
    """
    changed = 0
    for node in list(graph.graph.nodes):
        conv = op_of(graph, node)
        if not isinstance(conv, ops.Conv) or not is_pointwise(conv):
            continue
        pools = {user: op_of(graph, user) for user in node.users}
        factors = [pool.factor for pool in pools.values() if isinstance(pool, ops.AvgPool)]
        if not pools or len(factors) < len(pools) or any(f % min(factors) for f in factors):
            continue
        _move(graph, node, min(factors), pools)  # type: ignore[arg-type]
        changed += 1
    return changed


def _move(graph: fx.GraphModule, node: fx.Node, factor: int, pools: dict[fx.Node, ops.AvgPool]) -> None:
    source = node.args[0]
    assert isinstance(source, fx.Node)
    smaller = insert(graph, source, f"{node.name}_pool", ops.AvgPool(factor), source)
    smaller.append(node)
    node.args = (smaller,)
    for user, pool in pools.items():
        pool.factor //= factor
        if pool.factor == 1:
            user.replace_all_uses_with(node)
            graph.graph.erase_node(user)
