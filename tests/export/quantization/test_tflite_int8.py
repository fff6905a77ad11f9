"""int8 in TFLite files: integers as the simulation has them, what the file says of them, and faults in that."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import fx

from lightseg.errors import ParityError, Unsupported
from lightseg.export.graph.edit import op_nodes
from lightseg.export.graph.quantised import FakeQuantise, QuantisedConv
from lightseg.export.quantization.quantise import quantise, values_to_watch
from lightseg.export.quantization.ranges import grids, watch
from lightseg.export.quantization.scheme import Scheme
from lightseg.export.quantization.simulation import as_input
from lightseg.export.quantization.steps import Steps, compare_steps
from lightseg.export.targets import TARGETS
from lightseg.export.writers.flatbuffer import pack, unpack
from lightseg.export.writers.tflite import write_tflite
from tests.export.graph_builder import SIZE, Builder
from tests.export.quantization.made import made
from tests.export.quantization.small import IMAGE, PLAIN, SHAPE, in_int8, network
from tests.export.quantization.small import steps_of as file_steps
from tests.export.random_graphs import STEADY, graphs, sketch
from tests.export.subjects import require


def steps_of(file: bytes, graph: fx.GraphModule, folder: Path) -> Steps:
    """Every grid of the file beside that of ``graph``, on the image."""
    path = folder / "graph.tflite"
    path.write_bytes(file)
    return file_steps("tflite", path, graph)


@settings(STEADY, max_examples=12)
@given(graphs(7))
@pytest.mark.parametrize("floats", [0, 2])
def test_random_graphs_keep_every_integer(
    floats: int, tmp_path_factory: pytest.TempPathFactory, drawn: tuple[list[str], int]
) -> None:
    """At most one step off, and that for few: what lies between two steps."""
    require("tflite")
    graph = in_int8(sketch(*drawn), floats)
    file = write_tflite(graph, SHAPE, "image", "logits")
    found = steps_of(file, graph, tmp_path_factory.mktemp("graph"))
    assert len(found.steps) == sum(isinstance(op, FakeQuantise) for _, op in op_nodes(graph))
    found.check("graph.tflite")


def test_convolutions_hand_integers_on_and_floats_get_one_change(tmp_path: Path) -> None:
    """One QUANTIZE per value that comes in float, one DEQUANTIZE per value that is read in float."""
    require("tflite")
    graph = in_int8(network())
    path = tmp_path / "graph.tflite"
    path.write_bytes(write_tflite(graph, SHAPE, "image", "logits"))
    model = unpack(path.read_bytes())
    names = {v: k for k, v in vars(_schema().BuiltinOperator).items() if isinstance(v, int)}
    kinds = [names[model.operatorCodes[op.opcodeIndex].builtinCode] for op in model.subgraphs[0].operators]
    assert (kinds.count("QUANTIZE"), kinds.count("DEQUANTIZE")) == (5, 6)
    details = TARGETS["tflite"].load(path, 1).details
    assert details["int8_layers"] == "7" and details["arithmetic"] == details["weights"] == "int8"
    assert details["delegate"] == "XNNPACK" and details["partitions"] == "1"


def test_a_mixed_file_says_so(tmp_path: Path) -> None:
    require("tflite")
    path = tmp_path / "graph.tflite"
    path.write_bytes(write_tflite(in_int8(network(), floats=2), SHAPE, "image", "logits"))
    details = TARGETS["tflite"].load(path, 1).details
    assert details["int8_layers"] == "3" and details["arithmetic"] == details["weights"] == "int8 and float32"


def _schema() -> Any:
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


def tensor_of(model: Any, kind: str, read: bool) -> Any:
    """The middle one of the int8 tensors that operators of ``kind`` read as weights, or write."""
    code = getattr(_schema().BuiltinOperator, kind)
    graph = model.subgraphs[0]
    found = [op for op in graph.operators if model.operatorCodes[op.opcodeIndex].builtinCode == code]
    tensors = [graph.tensors[op.inputs[1] if read else op.outputs[0]] for op in found]
    int8 = [tensor for tensor in tensors if tensor.quantization is not None]
    return int8[len(int8) // 2]


def zero_point_of_what_comes_in(model: Any) -> None:
    said = tensor_of(model, "QUANTIZE", read=False).quantization
    said.zeroPoint = said.zeroPoint + 1


def zero_point_of_a_result(model: Any) -> None:
    said = tensor_of(model, "CONV_2D", read=False).quantization
    said.zeroPoint = said.zeroPoint + np.where(said.zeroPoint > 0, -1, 1)


def stale_scale_of_a_result(model: Any) -> None:
    said = tensor_of(model, "CONV_2D", read=False).quantization
    said.scale = said.scale * np.float32(1.02)


def one_scale_for_all_channels(model: Any) -> None:
    said = tensor_of(model, "CONV_2D", read=True).quantization
    said.scale = np.full_like(said.scale, said.scale.max())


def channels_in_another_order(model: Any) -> None:
    said = tensor_of(model, "DEPTHWISE_CONV_2D", read=True).quantization
    said.scale = said.scale[::-1].copy()


FAULTS: tuple[Callable[[Any], None], ...] = (
    zero_point_of_what_comes_in,
    zero_point_of_a_result,
    stale_scale_of_a_result,
    one_scale_for_all_channels,
    channels_in_another_order,
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_a_file_that_says_other_of_its_integers_is_refused(fault: Callable[[Any], None], tmp_path: Path) -> None:
    require("tflite")
    graph = in_int8(network())
    file = write_tflite(graph, SHAPE, "image", "logits")
    steps_of(file, graph, tmp_path).check("sound")
    model = unpack(file)
    fault(model)
    with pytest.raises(ParityError, match="is off its int8 grid"):
        steps_of(pack(model), graph, tmp_path).check("graph.tflite")


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_the_same_in_a_network(fault: Callable[[Any], None], tmp_path: Path) -> None:
    require("tflite")
    m = made("sinet", "tflite")
    path = tmp_path / "network.tflite"
    TARGETS["tflite"].convert(replace(m.plan, graph=m.plan.graph), path)
    model = unpack(path.read_bytes())
    fault(model)
    path.write_bytes(pack(model))
    found = compare_steps(path, m.record, m.graph, m.simulated, "photo")
    assert found is not None
    with pytest.raises(ParityError, match="is off its int8 grid"):
        found.check("network.tflite")


def test_what_tflite_has_no_integers_for_is_refused() -> None:
    graph = in_int8(network())
    grid = next(op for _, op in op_nodes(graph) if isinstance(op, FakeQuantise))
    grid.low = -127
    with pytest.raises(Unsupported, match="-127…127, where TFLite's int8 has -128…127"):
        write_tflite(graph, SHAPE, "image", "logits")


def test_a_result_that_is_read_in_float_is_refused() -> None:
    graph = network()
    seen = watch(copy.deepcopy(graph).float(), [as_input(IMAGE, PLAIN, baked=False)])
    inputs_only = Scheme()
    found = grids(seen, values_to_watch(graph, inputs_only), inputs_only)
    with pytest.raises(Unsupported, match="returns int8 in TFLite and is read in float"):
        write_tflite(quantise(graph, found, inputs_only), SHAPE, "image", "logits")


def test_padding_is_the_zero_point(tmp_path: Path) -> None:
    """Zeros around the map are what stands for zero, not the integer 0."""
    require("tflite")
    b = Builder((1, 3, *SIZE))
    graph = b.finish(b.call(b.conv(3, 4, (3, 3), (2, 2)), b.image))
    graph = in_int8(graph)
    grid = next(op for _, op in op_nodes(graph) if isinstance(op, FakeQuantise))
    assert grid.zero_point != 0
    assert any(isinstance(op, QuantisedConv) for _, op in op_nodes(graph))
    found = steps_of(write_tflite(graph, SHAPE, "image", "logits"), graph, tmp_path)
    found.check("graph.tflite")
    assert torch.isfinite(grid.scale)
