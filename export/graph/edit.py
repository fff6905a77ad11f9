"""Small steps every pass over a graph takes."""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx, nn


def op_of(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module a node calls; None for inputs and outputs."""
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None


def op_nodes(graph: fx.GraphModule) -> Iterator[tuple[fx.Node, nn.Module]]:
    """Every node that calls a module, with the module."""
    for node in graph.graph.nodes:
        op = op_of(graph, node)
        if op is not None:
            yield node, op


def sole_user(value: fx.Node, user: fx.Node) -> bool:
    """Whether ``user`` alone reads ``value``."""
    return list(value.users) == [user]


def add_op(root: nn.Module, wanted: str, op: nn.Module) -> str:
    """Register ``op`` on ``root`` under ``wanted`` or the first free name after it."""
    base = wanted.replace(".", "_") or "op"
    name, count = base, 1
    while hasattr(root, name):
        count += 1
        name = f"{base}_{count}"
    root.add_module(name, op)
    return name


def insert(graph: fx.GraphModule, after: fx.Node, name: str, op: nn.Module, *inputs: fx.Node) -> fx.Node:
    """A new node that calls ``op`` on ``inputs``, placed right behind ``after``."""
    with graph.graph.inserting_after(after):
        return graph.graph.call_module(add_op(graph, name, op), inputs)


def finish(graph: fx.GraphModule) -> None:
    """Check the graph and compile it again after a change."""
    graph.graph.lint()
    graph.recompile()
