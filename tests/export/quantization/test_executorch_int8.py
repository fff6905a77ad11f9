"""int8 in ExecuTorch files: integers as the simulation has them, what the delegate's graph says, and faults in that."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import fx

from lightseg.errors import ParityError, Unsupported
from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_nodes
from lightseg.export.graph.quantised import FakeQuantise, QuantisedConv
from lightseg.export.inside import open_inside
from lightseg.export.quantization.quantise import quantise, values_to_watch
from lightseg.export.quantization.ranges import grids, watch
from lightseg.export.quantization.scheme import Scheme
from lightseg.export.quantization.simulation import as_input
from lightseg.export.quantization.steps import compare_steps
from lightseg.export.targets import TARGETS
from lightseg.export.targets.executorch import program_of, quiet
from lightseg.export.writers.pte import read_pte, split, with_notes, write_pte
from lightseg.export.writers.xnnpack_graph import XnnGraph
from tests.export.graph_builder import Builder
from tests.export.quantization.made import made
from tests.export.quantization.small import IMAGE, PLAIN, SHAPE, in_int8, network, steps_of
from tests.export.random_graphs import STEADY, graphs, sketch
from tests.export.subjects import require
from tests.export.written import plan_of


@pytest.fixture(autouse=True)
def _installed() -> None:
    require("executorch")


def written(graph: fx.GraphModule, folder: Path) -> Path:
    graph.meta["input_shape"] = SHAPE
    path = folder / "graph.pte"
    TARGETS["executorch"].convert(plan_of(graph), path)
    return path


@pytest.mark.slow
@settings(STEADY, max_examples=8)
@given(graphs(7))
@pytest.mark.parametrize("floats", [0, 2])
def test_random_graphs_keep_every_integer(
    floats: int, tmp_path_factory: pytest.TempPathFactory, drawn: tuple[list[str], int]
) -> None:
    """At most one step off, and that for few: what lies between two steps."""
    graph = in_int8(sketch(*drawn), floats)
    found = steps_of("executorch", written(graph, tmp_path_factory.mktemp("graph")), graph)
    assert len(found.steps) == sum(isinstance(op, FakeQuantise) for _, op in op_nodes(graph))
    found.check("graph.pte")


def test_convolutions_hand_integers_on_and_floats_get_one_change(tmp_path: Path) -> None:
    """One change for each value that comes in float (5), and one for each that is read in float (6)."""
    path = written(in_int8(network()), tmp_path)
    kinds = Counter(type(node.xnode_union).__name__ for node in read_pte(program_of(path)).graph.xnodes)
    assert (kinds["XNNConvert"], kinds["XNNConv2d"] + kinds["XNNDepthwiseConv2d"]) == (11, 7)
    details = TARGETS["executorch"].load(path, 1).details
    assert (details["int8_layers"], details["delegate"], details["partitions"]) == ("7", "XnnpackBackend", "1")
    assert details["arithmetic"] == "float32 and int8 between operations"


@pytest.mark.parametrize(("floats", "int8"), [(2, "3"), (1, None)])
def test_a_mixed_file_says_so(floats: int, int8: str | None, tmp_path: Path) -> None:
    details = TARGETS["executorch"].load(written(in_int8(network(), floats), tmp_path), 1).details
    assert details.get("int8_layers") == int8


def test_what_is_read_back_is_what_was_written(tmp_path: Path) -> None:
    """To the byte: the proof runs pieces of the file, and a scale of six digits would be another."""
    program = program_of(written(in_int8(network()), tmp_path))
    assert _payload(write_pte(read_pte(program))) == _payload(program)


def test_what_shows_the_values_answers_as_the_file_does(tmp_path: Path) -> None:
    """To the bit: with every value an output the delegate computes what it computes without."""
    graph = in_int8(network())
    path = written(graph, tmp_path)
    x = as_input(IMAGE, PLAIN, baked=False).numpy()
    nodes = [n.name for n, op in op_nodes(graph) if isinstance(op, FakeQuantise)]
    shown = open_inside("executorch", path, nodes).values(x)
    assert len(nodes) == sum(value.dtype == np.int8 for value in shown.values())
    np.testing.assert_array_equal(shown["logits"], TARGETS["executorch"].load(path, 1)(x))


def _payload(program: bytes) -> bytes:
    from executorch.exir._serialize._program import deserialize_pte_binary

    return bytes(deserialize_pte_binary(program).program.backend_delegate_data[0].data)


def values(xnn: XnnGraph, kind: str, end: str) -> list[Any]:
    """The int8 values at ``end`` of the operations of ``kind``."""
    steps = [n.xnode_union for n in xnn.graph.xnodes if type(n.xnode_union).__name__ == f"XNN{kind}"]
    unions = [value.xvalue_union for value in xnn.graph.xvalues]
    known = {u.tensor_value.id_out: u for u in unions if hasattr(u, "tensor_value")}
    return [known[getattr(step, end)] for step in steps if getattr(step, end) in known]


def middle(found: list[Any]) -> Any:
    return found[len(found) // 2]


def zero_point_of_what_comes_in(xnn: XnnGraph) -> None:
    middle(values(xnn, "Convert", "output_id")).quant_params.zero_point += 1


def zero_point_of_a_result(xnn: XnnGraph) -> None:
    grid = middle(values(xnn, "Conv2d", "output_id")).quant_params
    grid.zero_point += -1 if grid.zero_point > 0 else 1


def stale_scale_of_a_result(xnn: XnnGraph) -> None:
    middle(values(xnn, "Conv2d", "output_id")).quant_params.scale *= 1.02


def changed(xnn: XnnGraph, place: int, dtype: Any, change: Callable[[Any], Any]) -> None:
    """The constant at ``place`` as ``change`` makes it; others that share its bytes keep them."""
    entry = xnn.graph.constant_data[place]
    new = np.ascontiguousarray(change(np.frombuffer(xnn.constants[entry.named_key], dtype)), dtype).tobytes()
    assert new != xnn.constants[entry.named_key]
    entry.named_key = "changed"
    xnn.constants["changed"] = new


def one_scale_for_all_channels(xnn: XnnGraph) -> None:
    place = middle(values(xnn, "Conv2d", "filter_id")).quant_params.scale_buffer_idx
    changed(xnn, place, "<f4", lambda scale: np.full_like(scale, scale.max()))


def channels_in_another_order(xnn: XnnGraph) -> None:
    place = middle(values(xnn, "DepthwiseConv2d", "filter_id")).quant_params.scale_buffer_idx
    changed(xnn, place, "<f4", lambda scale: scale[::-1])


def weights_shifted(xnn: XnnGraph) -> None:
    place = middle(values(xnn, "Conv2d", "filter_id")).tensor_value.constant_buffer_idx
    changed(xnn, place, "i1", lambda weights: np.roll(weights, 1))


def bias_dropped(xnn: XnnGraph) -> None:
    place = middle(values(xnn, "Conv2d", "bias_id")).tensor_value.constant_buffer_idx
    changed(xnn, place, "<i4", np.zeros_like)


def slopes_dropped(xnn: XnnGraph) -> None:
    """Between two int8 values lies a float operation: what it does wrong is seen in the value behind it."""
    steps = [n.xnode_union for n in xnn.graph.xnodes if type(n.xnode_union).__name__ == "XNNPReLU"]
    tensors = [v.xvalue_union for v in xnn.graph.xvalues]
    slope = next(t for t in tensors if getattr(t, "id_out", None) == middle(steps).input2_id)
    changed(xnn, slope.constant_buffer_idx, "<f4", np.zeros_like)


FAULTS: tuple[Callable[[XnnGraph], None], ...] = (
    zero_point_of_what_comes_in,
    zero_point_of_a_result,
    stale_scale_of_a_result,
    one_scale_for_all_channels,
    channels_in_another_order,
    weights_shifted,
    bias_dropped,
    slopes_dropped,
)


def damage(path: Path, fault: Callable[[XnnGraph], None]) -> None:
    with quiet():
        xnn = read_pte(program_of(path))
        fault(xnn)
        path.write_bytes(with_notes(write_pte(xnn), **split(path.read_bytes())[1]))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[fx.GraphModule, Path]:
    graph = in_int8(network())
    path = written(graph, tmp_path_factory.mktemp("sound"))
    steps_of("executorch", path, graph).check("sound")
    return graph, path


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_a_file_that_says_other_of_its_integers_is_refused(
    fault: Callable[[XnnGraph], None], sound: tuple[fx.GraphModule, Path], tmp_path: Path
) -> None:
    graph, whole = sound
    path = tmp_path / whole.name
    path.write_bytes(whole.read_bytes())
    damage(path, fault)
    with pytest.raises(ParityError, match="is off its int8 grid"):
        steps_of("executorch", path, graph).check("graph.pte")


@pytest.mark.slow
@pytest.mark.parametrize("fault", [stale_scale_of_a_result, weights_shifted, slopes_dropped], ids=lambda f: f.__name__)
def test_the_same_in_a_network(fault: Callable[[XnnGraph], None], tmp_path: Path) -> None:
    m = made("sinet", "executorch")
    path = tmp_path / "network.pte"
    TARGETS["executorch"].convert(m.plan, path)
    damage(path, fault)
    found = compare_steps(path, m.record, m.graph, m.simulated, "photo")
    assert found is not None
    with pytest.raises(ParityError, match="is off its int8 grid"):
        found.check("network.pte")


def _narrow(graph: fx.GraphModule) -> None:
    next(op for _, op in op_nodes(graph) if isinstance(op, FakeQuantise)).low = -127


def _much_finer(graph: fx.GraphModule) -> None:
    reader = next(n for n, _ in op_nodes(graph) if n.name == "conv_int8")
    grid = graph.get_submodule(str(reader.target))
    assert isinstance(grid, FakeQuantise)
    grid.scale = grid.scale * 1e-6


REFUSED: dict[str, tuple[Callable[[fx.GraphModule], None], str]] = {
    "ends": (_narrow, "-127…127, where XNNPACK's int8 has -128…127"),
    "far apart": (_much_finer, "steps .* times finer .* up to 256; use --precision fp32"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_kernels_do_not_take_is_refused_in_one_line(what: str, tmp_path: Path) -> None:
    change, said = REFUSED[what]
    graph = in_int8(network())
    change(graph)
    with pytest.raises(Unsupported, match=said):
        written(graph, tmp_path)


def test_a_result_that_is_read_in_float_is_refused(tmp_path: Path) -> None:
    graph, inputs_only = network(), Scheme()
    seen = watch(copy.deepcopy(graph).float(), [as_input(IMAGE, PLAIN, baked=False)])
    found = grids(seen, values_to_watch(graph, inputs_only), inputs_only)
    with pytest.raises(Unsupported, match="returns int8 in ExecuTorch and is read in float"):
        written(quantise(graph, found, inputs_only), tmp_path)


def test_padding_is_the_zero_point(tmp_path: Path) -> None:
    """Zeros around the map are what stands for zero, not the integer 0."""
    b = Builder(SHAPE)
    graph = in_int8(b.finish(b.call(b.conv(3, 4, (3, 3), (2, 2)), b.image)))
    grid = next(op for _, op in op_nodes(graph) if isinstance(op, FakeQuantise))
    assert grid.zero_point != 0
    steps_of("executorch", written(graph, tmp_path), graph).check("graph.pte")


def test_channels_of_zeros_are_written(tmp_path: Path) -> None:
    """Their scale is as small as scales are, and the delegate takes it."""
    b = Builder(SHAPE)
    graph = b.finish(b.call(b.conv(8, 4), b.call(b.conv(3, 8, (3, 3)), b.image)))
    first = next(op for _, op in op_nodes(graph))
    assert isinstance(first, ops.Conv)
    first.weight[2], first.bias = 0, None
    graph = in_int8(graph)
    conv = next(op for _, op in op_nodes(graph) if isinstance(op, QuantisedConv))
    assert float(conv.weight_scale[2]) < 1e-10 and torch.isfinite(conv.weight_scale).all()
    steps_of("executorch", written(graph, tmp_path), graph).check("graph.pte")
