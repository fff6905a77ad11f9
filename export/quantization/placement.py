"""Which convolutions are worth eight bits: float stays where the change to integers and back costs too much."""

from __future__ import annotations

from torch import fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_of
from lightseg.export.graph.shapes import Shape, shapes
from lightseg.export.quantization.scheme import Price


def better_in_float(graph: fx.GraphModule, input_shape: Shape, price: Price) -> list[str]:
    """The convolutions that cost least in float, by ``price``, and all depthwise 1×1 ones: those are batch norms, and
    their results are added up along the network, where every rounding stays.

    A search by single changes, from all in int8, from the dense ones alone, and from none; the best of the three.
    """
    places = _Places(graph, input_shape, price)
    dense = {node for node in places.free if not places.convolutions[node].is_depthwise}
    int8 = min((places.improved(start) for start in (set(places.free), dense, set())), key=places.cost)
    return [node.name for node in places.convolutions if node not in int8]


class _Places:
    def __init__(self, graph: fx.GraphModule, input_shape: Shape, price: Price) -> None:
        self.price = price
        self.shapes = shapes(graph, input_shape)
        self.convolutions: dict[fx.Node, ops.Conv] = {}
        for node in graph.graph.nodes:
            op = op_of(graph, node)
            if type(op) is ops.Conv:
                self.convolutions[node] = op
        self.free = [n for n, op in self.convolutions.items() if not (op.is_depthwise and op.weight[0, 0].numel() == 1)]
        self.gain = {n: self._gain(n) for n in self.free}

    def improved(self, int8: set[fx.Node]) -> set[fx.Node]:
        best, found = self.cost(int8), True
        while found:
            found = False
            for node in self.free:
                cost = self.cost(int8 ^ {node})
                if cost < best:
                    best, int8, found = cost, int8 ^ {node}, True
        return int8

    def cost(self, int8: set[fx.Node]) -> float:
        """Instructions against the same graph in float."""
        rounded = {n.all_input_nodes[0] for n in int8} - int8
        widened = [n for n in int8 if any(reader not in int8 for reader in n.users)]
        return (
            sum(self.price.quantise * self._elements(n) for n in rounded)
            + sum(self.price.dequantise * self._elements(n) for n in widened)
            - sum(self.gain[n] for n in int8)
        )

    def _gain(self, node: fx.Node) -> float:
        op = self.convolutions[node]
        macs = self._elements(node) * op.weight[0].numel()
        if not op.is_depthwise:
            return self.price.dense * macs
        return self.price.depthwise * macs if op.weight.shape[0] % self.price.lanes == 0 else 0.0

    def _elements(self, node: fx.Node) -> int:
        n, c, h, w = self.shapes[node]
        return n * c * h * w
