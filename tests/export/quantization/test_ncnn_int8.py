"""ncnn in eight bits: what its two files hold, which kernels are trusted, and faults in the files that are caught."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import fx

from lightseg.errors import BadInput, ParityError
from lightseg.export.answers import Array
from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_nodes
from lightseg.export.graph.quantised import FakeQuantise, QuantisedConv
from lightseg.export.graph.values import exact_values
from lightseg.export.inside import open_inside
from lightseg.export.quantization.plan import COUNT
from lightseg.export.quantization.quantise import convolutions, quantise, values_to_watch
from lightseg.export.quantization.steps import Product, Steps, compare_steps
from lightseg.export.targets.ncnn import BIN, NCNN, PARAM
from lightseg.export.writers.ncnn import write_ncnn
from lightseg.export.writers.ncnn_weights import CONVOLUTIONS, layers_in, weights_in
from tests.export.graph_builder import Builder
from tests.export.quantization.made import Made, made
from tests.export.subjects import require
from tests.export.written import noise

assert NCNN.int8 is not None and NCNN.int8.products is not None
SCHEME, PRODUCTS = NCNN.int8, NCNN.int8.products
SHAPE = (1, 16, 11, 9)


@pytest.fixture(autouse=True)
def _installed() -> None:
    require("ncnn")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The small network's folder, which a test may damage."""
    NCNN.convert(made("sinet", "ncnn").plan, tmp_path)
    return tmp_path


def steps(path: Path) -> Steps:
    m: Made = made("sinet", "ncnn")
    found = compare_steps(path, m.record, m.graph, m.simulated, "photo")
    assert found is not None
    return found


def test_the_files_hold_bytes_and_the_runtime_reads_bytes(file: Path) -> None:
    layers, data = layers_in((file / PARAM).read_text()), (file / BIN).read_bytes()
    arrays = list(weights_in(layers, data))
    count = made("sinet", "ncnn").quantised.int8
    assert count > 50 and Counter(a.dtype for a in arrays)["int8"] == count
    assert sum(x.kind in CONVOLUTIONS and x.number(8) == 1 for x in layers) == count
    assert NCNN.load(file, 1).details[COUNT] == str(count)


def test_a_convolution_that_is_given_floats_does_not_count(file: Path) -> None:
    """The runtime says so itself: the file still claims every convolution."""
    text, data = (file / PARAM).read_text(), (file / BIN).read_bytes()
    layers = layers_in(text)
    first = next(x for x in layers if x.kind == "Quantize")
    scale = next(a for a in weights_in(layers, data) if a.layer == first.name)
    row = next(row for row in text.split("\n") if row.startswith(f"Quantize {first.name} "))
    (file / PARAM).write_text(text.replace(row, row.replace("Quantize", "Noop").removesuffix(" 0=1")))
    (file / BIN).write_bytes(data[: scale.start] + data[scale.start + 4 :])
    left = int(NCNN.load(file, 1).details[COUNT])
    assert 0 < left < made("sinet", "ncnn").quantised.int8


def test_numbers_of_a_wrong_tag_are_refused(file: Path) -> None:
    data = bytearray((file / BIN).read_bytes())
    first = next(a for a in weights_in(layers_in((file / PARAM).read_text()), bytes(data)) if a.dtype == "int8")
    data[first.start - 4 : first.start] = b"\1\2\3\4"
    (file / BIN).write_bytes(data)
    with pytest.raises(BadInput, match=r"does not belong to its model.param .* no known tag"):
        NCNN.load(file, 1)


def _edit(path: Path, kind: str, which: int, array: int, change: Callable[[Array], Array]) -> None:
    """Change one array of the ``which``-th layer of ``kind``."""
    layers, data = layers_in((path / PARAM).read_text()), bytearray((path / BIN).read_bytes())
    name = [x.name for x in layers if x.kind == kind][which]
    found = [a for a in weights_in(layers, bytes(data)) if a.layer == name][array]
    dtype = np.dtype({"int8": "i1", "float32": "<f4"}[found.dtype])
    end = found.start + found.count * dtype.itemsize
    data[found.start : end] = change(np.frombuffer(bytes(data[found.start : end]), dtype)).astype(dtype).tobytes()
    (path / BIN).write_bytes(data)


FAULTS: dict[str, tuple[str, int, int, Callable[[Array], Array]]] = {
    "an input's scale is stale in the layer that rounds it": ("Quantize", 9, 0, lambda x: x * 1.05),
    "and in the convolution that reads it": ("Convolution", 9, -1, lambda x: x * 1.001),
    "a filter's scale": ("Convolution", 9, -2, lambda x: np.append(x[:-1], x[-1] * 1.001)),
    "a depthwise filter's scale": ("ConvolutionDepthWise", 4, -2, lambda x: np.append(x[:-1], x[-1] * 1.01)),
    "weights are shifted by one": ("Convolution", 9, 0, lambda x: np.roll(x, 1)),
    "one weight is one off": ("Convolution", 9, 0, lambda x: np.append(x[:-1], x[-1] - np.sign(x[-1] or 1))),
    "a bias is dropped": ("Convolution", 9, 1, lambda x: 0 * x),
    "negative slopes are dropped": ("PReLU", 7, 0, lambda x: np.maximum(x, 0)),
    "a slope is stale": ("PReLU", 7, 0, lambda x: x * 1.05),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_file_is_caught(fault: str, file: Path) -> None:
    _edit(file, *FAULTS[fault])
    with pytest.raises(ParityError, match=r"is off its int8 (grid|product) on probe photo"):
        steps(file).check("file")


def test_a_sound_file_is_exact(file: Path) -> None:
    """Every whole number, and every product to float32's rounding or that of the approximate reciprocal."""
    found = steps(file)
    found.check("file")
    assert len(found.products) == made("sinet", "ncnn").quantised.int8
    assert max(p.off for p in found.products if p.allowed == PRODUCTS.dense) < PRODUCTS.dense / 2
    record = found.to_dict()
    assert record["products"] == len(found.products) and record["worst_product"]["off"] <= PRODUCTS.depthwise


@pytest.mark.parametrize(("off", "sound"), [(0.0, True), (2 * PRODUCTS.dense, False), (float("nan"), False)])
def test_products_are_held_to_their_limit(off: float, sound: bool) -> None:
    found = Steps("photo", (), (Product("conv", off, PRODUCTS.dense),))
    with nullcontext() if sound else pytest.raises(ParityError, match="file: the value conv is off its int8 product"):
        found.check("file")


KINDS: dict[str, tuple[int, tuple[int, int], int, int, int]] = {
    "pointwise": (24, (1, 1), 1, 1, 1),
    "odd width": (5, (1, 1), 1, 1, 1),
    "stride": (12, (3, 3), 1, 2, 1),
    "dilated": (16, (3, 3), 1, 1, 2),
    "column": (16, (5, 1), 1, 1, 1),
    "depthwise": (16, (3, 3), 16, 1, 1),
    "depthwise, stride": (16, (3, 3), 16, 2, 1),
    "depthwise, dilated": (16, (3, 3), 16, 1, 4),
    "depthwise row": (16, (1, 15), 16, 1, 1),
    "depthwise, two filters each": (32, (3, 3), 16, 1, 1),
    "groups ncnn gets wrong": (32, (1, 1), 4, 1, 1),
    "wide groups": (32, (3, 3), 2, 1, 1),
    "odd groups": (6, (1, 1), 2, 1, 1),
}
"""Filters, window, groups, stride, dilation, of 16 channels."""


def _in_int8(graph: fx.GraphModule, x: torch.Tensor) -> fx.GraphModule:
    values = exact_values(graph, x) | {"image": x}
    names = values_to_watch(graph, SCHEME)
    return quantise(graph, {n: FakeQuantise(float(values[n].abs().max()) / 127, 0, -127, 127) for n in names}, SCHEME)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_convolution_is_what_was_simulated(kind: str, tmp_path: Path) -> None:
    out, (kh, kw), groups, stride, dilation = KINDS[kind]
    b = Builder(SHAPE, seed=3)
    random = torch.Generator().manual_seed(5)
    weight = torch.randn(out, 16 // groups, kh, kw, generator=random, dtype=torch.float64)
    bias = torch.randn(out, generator=random, dtype=torch.float64)
    padding = (dilation * (kh // 2), dilation * (kw // 2))
    conv = ops.Conv(weight, bias, (stride, stride), padding, (dilation, dilation), groups)
    x = noise(SHAPE)
    graph = _in_int8(b.finish(b.call(conv, b.image)), x)
    text, data = write_ncnn(graph, SHAPE, "logits")
    (tmp_path / PARAM).write_text(text)
    (tmp_path / BIN).write_bytes(data)
    nodes = {n.name: op for n, op in op_nodes(graph)}
    shown = open_inside("ncnn", tmp_path, [*nodes, "logits"]).values(x.float().numpy())
    name, grid = next((n, op) for n, op in nodes.items() if isinstance(op, FakeQuantise))
    assert np.array_equal(np.round(shown[name] / float(grid.scale)), grid.integers(x.float().double()).numpy())
    op = next(op for op in nodes.values() if isinstance(op, QuantisedConv))
    limit = PRODUCTS.depthwise if op.is_depthwise else PRODUCTS.dense
    want = graph(x.float().double())
    assert float((torch.from_numpy(shown["logits"]) - want).abs().max()) <= limit * float(want.abs().max())


def test_a_convolution_left_in_float_reads_floats(tmp_path: Path) -> None:
    """Beside an int8 one that reads the same value: that one alone is given bytes, and counts."""
    b, x = Builder(SHAPE, seed=4), noise(SHAPE)
    whole = b.finish(b.call(ops.Add(), b.call(b.conv(16, 8), b.image), b.call(b.conv(16, 8, (3, 3)), b.image)))
    grids = {"image": FakeQuantise(float(x.abs().max()) / 127, 0, -127, 127)}
    graph = quantise(whole, grids, SCHEME, convolutions(whole)[:1])
    text, data = write_ncnn(graph, SHAPE, "logits")
    (tmp_path / PARAM).write_text(text)
    (tmp_path / BIN).write_bytes(data)
    runner = NCNN.load(tmp_path, 1)
    assert runner.details[COUNT] == "1"
    want = graph(x.float().double()).numpy()
    assert np.abs(runner(x.float().numpy()) - want).max() <= 1e-5 * np.abs(want).max()
