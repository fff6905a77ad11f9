"""Counts from ONNX files, against files whose cost is known by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightseg.benchmarks.counting.onnx_file import count_onnx
from lightseg.errors import BadInput, Unsupported

onnx = pytest.importorskip("onnx")


def save(path: Path, nodes: list[Any], stored: dict[str, np.ndarray[Any, Any]], shape: list[int | str]) -> Path:
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    graph = helper.make_graph(
        nodes,
        "by hand",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


def test_convolutions_by_hand(tmp_path: Path) -> None:
    node = onnx.helper.make_node
    stored = {
        "w": np.ones((8, 3, 3, 3), np.float32),
        "d": np.ones((8, 1, 3, 3), np.float32),
        "zero": np.zeros(8, np.float32),
        "t": np.ones((8, 4, 2, 2), np.float32),
        "slope": np.ones((4, 1, 1), np.float32),
    }
    nodes = [
        node("Conv", ["x", "w"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Conv", ["a", "d", "zero"], ["b"], group=8, pads=[1, 1, 1, 1]),
        node("ConvTranspose", ["b", "t"], ["c"], strides=[2, 2]),
        node("PRelu", ["c", "slope"], ["y"]),
    ]
    cost = count_onnx(save(tmp_path / "m.onnx", nodes, stored, [1, 3, 16, 16]))
    assert [layer.macs for layer in cost.layers] == [8 * 64 * 27, 8 * 64 * 9, 8 * 64 * 4 * 4, 0]
    assert [layer.kind for layer in cost.layers] == ["conv", "depthwise", "transposed conv", "activation"]
    assert cost.params == 216 + 72 + 128 + 4
    assert cost.elements["zero bias"] == 8
    assert cost.peak_activation_bytes == 4 * 2 * 4 * 256


def test_weights_cast_from_half_are_weights_of_two_bytes(tmp_path: Path) -> None:
    node = onnx.helper.make_node
    nodes = [
        node("Cast", ["w.half"], ["w"], to=onnx.TensorProto.FLOAT),
        node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1]),
    ]
    cost = count_onnx(save(tmp_path / "m.onnx", nodes, {"w.half": np.ones((8, 3, 3, 3), np.float16)}, [1, 3, 16, 16]))
    assert ([layer.op for layer in cost.layers], cost.macs, cost.params) == (["Conv"], 8 * 256 * 27, 216)


@pytest.mark.parametrize(("shapes", "macs"), [(((2, 6), (6, 5)), 60), (((1, 3, 4, 6), (6, 5)), 360)])
def test_matrix_products(tmp_path: Path, shapes: tuple[list[int], list[int]], macs: int) -> None:
    nodes = [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, {"w": np.ones(shapes[1], np.float32)}, list(shapes[0]))
    assert count_onnx(path).macs == macs


def test_prelu_written_with_min_keeps_its_slopes_apart_from_affines(tmp_path: Path) -> None:
    node = onnx.helper.make_node
    stored = {"0": np.zeros(1, np.float32), "a": np.ones((3, 1, 1), np.float32), "s": np.ones((3, 1, 1), np.float32)}
    nodes = [node("Min", ["x", "0"], ["m"]), node("Mul", ["m", "a"], ["n"]), node("Mul", ["n", "s"], ["y"])]
    cost = count_onnx(save(tmp_path / "m.onnx", nodes, stored, [1, 3, 4, 4]))
    assert (cost.elements["slope"], cost.elements["affine"]) == (3, 3)


def test_refusals(tmp_path: Path) -> None:
    node = onnx.helper.make_node
    dynamic = save(tmp_path / "d.onnx", [node("Relu", ["x"], ["y"])], {}, ["batch", 3, 4, 4])
    with pytest.raises(BadInput, match="not fixed"):
        count_onnx(dynamic)
    einsum = save(tmp_path / "e.onnx", [node("Einsum", ["x", "x"], ["y"], equation="ij,jk->ik")], {}, [4, 4])
    with pytest.raises(Unsupported, match="MACs of Einsum"):
        count_onnx(einsum)
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(BadInput, match="not a readable ONNX model"):
        count_onnx(tmp_path / "bad.onnx")
    with pytest.raises(BadInput, match="no file"):
        count_onnx(tmp_path / "absent.onnx")
