"""The text of an ncnn pair: its lines, and the layers ncnn wants between those that share a blob."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

Blobs = list[str]
Parameter = int | float | Sequence[int]


@dataclass
class Layer:
    """One line of the text: kind, name, blobs it reads and the one it makes, numbered parameters."""

    kind: str
    name: str
    inputs: Blobs
    outputs: Blobs
    parameters: dict[int, Parameter] = field(default_factory=dict)

    def __str__(self) -> str:
        written = [_parameter(key, value) for key, value in self.parameters.items()]
        counts = [str(len(self.inputs)), str(len(self.outputs))]
        return " ".join([self.kind, self.name, *counts, *self.inputs, *self.outputs, *written])


def _parameter(key: int, value: Parameter) -> str:
    """Lists have keys of their own; a number is read as a float where it has a point."""
    if isinstance(value, float):
        return f"{key}={value:e}"
    if isinstance(value, int):
        return f"{key}={value}"
    return f"{-23300 - key}={','.join(map(str, (len(value), *value)))}"


def with_splits(layers: Sequence[Layer]) -> list[Layer]:
    """ncnn lets one layer alone read a blob: what several read is split into as many."""
    readers = Counter(blob for layer in layers for blob in layer.inputs)
    taken: Counter[str] = Counter()
    result = []
    for layer in layers:
        inputs = list(layer.inputs)
        for i, blob in enumerate(inputs):
            if readers[blob] > 1:
                inputs[i] = f"{blob}_{taken[blob]}"
                taken[blob] += 1
        result.append(Layer(layer.kind, layer.name, inputs, layer.outputs, layer.parameters))
        for blob in layer.outputs:
            if readers[blob] > 1:
                copies = [f"{blob}_{i}" for i in range(readers[blob])]
                result.append(Layer("Split", f"{blob}_split", [blob], copies))
    return result
