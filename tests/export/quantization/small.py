"""Small graphs in int8 as XNNPACK's kernels take them, and their files value by value."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from torch import fx

from lightseg.export.graph import ops
from lightseg.export.quantization.quantise import convolutions, quantise, values_to_watch
from lightseg.export.quantization.ranges import grids, watch
from lightseg.export.quantization.scheme import Scheme
from lightseg.export.quantization.simulation import as_input
from lightseg.export.quantization.steps import Steps, compare_steps
from lightseg.spec import Preprocess
from tests.export.graph_builder import SIZE, Builder

SCHEME = Scheme(outputs=True)
SHAPE = (1, 3, *SIZE)
PLAIN = Preprocess("RGB", (64.0, 64.0, 64.0), (64.0, 64.0, 64.0))
IMAGE = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def in_int8(graph: fx.GraphModule, floats: int = 0) -> fx.GraphModule:
    """Every convolution of ``graph`` but each ``floats``-th, on grids that fit the image."""
    x = as_input(IMAGE, PLAIN, baked=False)
    found = grids(watch(copy.deepcopy(graph).float(), [x]), values_to_watch(graph, SCHEME), SCHEME)
    return quantise(graph, found, SCHEME, convolutions(graph)[::floats] if floats else [])


def steps_of(target: str, path: Path, graph: fx.GraphModule) -> Steps:
    """Every grid of the file beside that of ``graph``, on the image."""
    artifact: Any = SimpleNamespace(target=target, baked=False, output="logits")
    reference: Any = SimpleNamespace(probes={"image": IMAGE}, preprocess=PLAIN)
    found = compare_steps(path, artifact, graph, reference, "image")
    assert found is not None
    return found


def network() -> fx.GraphModule:
    """Dense, grouped, depthwise, dilated and strided convolutions, some reading one value, some one another."""
    b = Builder(SHAPE)
    stem = b.call(b.prelu(8), b.call(b.conv(3, 8, (3, 3), (2, 2)), b.image))
    first = b.call(b.conv(8, 16, groups=2), stem)
    sides = [b.call(b.conv(16, 16, (3, 3), dilation=(d, d), groups=16), first) for d in (1, 2)]
    joined = b.call(ops.Add(), *(b.call(b.conv(16, 16), b.call(b.prelu(16), side)) for side in sides))
    return b.finish(b.call(b.conv(16, 2), joined))
