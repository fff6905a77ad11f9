"""Writing a graph as a file of a target and running the file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from lightseg.export.graph import ops
from lightseg.export.targets import TARGETS, Plan

ROUNDING = 1e-5
"""Float32 against float64, as a share of the largest value on the way."""


def plan_of(graph: fx.GraphModule, output: str = "logits") -> Plan:
    baked = any(isinstance(op, ops.FromImage) for op in graph.children())
    n, c, h, w = shape = graph.meta["input_shape"]
    image = torch.zeros((n, h, w, c), dtype=torch.uint8) if baked else torch.zeros(shape, dtype=torch.float64)
    return Plan(graph, "fp32", shape, tuple(graph(image).shape), output, baked, dynamic=False, multiple=1)


def run_written(target: str, graph: fx.GraphModule, x: Tensor, output: str = "logits") -> NDArray[Any]:
    """``graph`` written as ``target`` and run on ``x``, N×C×H×W."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"graph{TARGETS[target].suffix}"
        if TARGETS[target].folder:
            path.mkdir()
        TARGETS[target].convert(plan_of(graph, output), path)
        result: NDArray[Any] = np.array(TARGETS[target].load(path, 1)(x.numpy()))
        return result


def noise(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Seeded normal float64 numbers, some exactly zero."""
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x[x.abs() < 0.05] = 0
    return x
