"""No layout is changed inside a file, and no channels are shuffled: what moves data and computes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from lightseg.export.targets import TARGETS
from lightseg.zoo import MODELS
from tests.export.conftest import Exported
from tests.export.subjects import graph_of, require
from tests.export.written import plan_of

MOVES = re.compile(r"transpose|permute|gather|shuffle|reorg", re.IGNORECASE)
COMPUTES = re.compile(r"conv", re.IGNORECASE)
"""A transposed convolution is none of them."""


def _onnx(path: Path) -> Iterable[str]:
    import onnx

    return [node.op_type for node in onnx.load(str(path)).graph.node]


def _tflite(path: Path) -> Iterable[str]:
    from ai_edge_litert import schema_py_generated as schema

    from lightseg.export.writers.flatbuffer import unpack

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    model = unpack(path.read_bytes())
    return [names[model.operatorCodes[op.opcodeIndex].builtinCode] for op in model.subgraphs[0].operators]


def _coreml(path: Path) -> Iterable[str]:
    from lightseg.export.mil.interpreter import read_program

    return [step.kind for step in read_program(path).steps]


def _openvino(path: Path) -> Iterable[str]:
    return re.findall(r'<layer [^>]*type="(\w+)"', (path / "model.xml").read_text(encoding="utf-8"))


def _ncnn(path: Path) -> Iterable[str]:
    return [line.split()[0] for line in (path / "model.param").read_text(encoding="utf-8").splitlines()[2:]]


OPERATIONS: dict[str, Callable[[Path], Iterable[str]]] = {
    "onnx": _onnx,
    "tflite": _tflite,
    "coreml": _coreml,
    "openvino": _openvino,
    "ncnn": _ncnn,
}
"""The kinds of operations in a file. The other targets' files are compiled, or change the layout at their two ends."""


def moved(target: str, path: Path) -> list[str]:
    kinds = list(OPERATIONS[target](path))
    assert len(kinds) > 20
    return [kind for kind in kinds if MOVES.search(kind) and not COMPUTES.search(kind)]


FAST = {("sinet", "onnx"), ("sinet", "tflite"), ("sinet", "ncnn")}
CASES = [
    pytest.param(name, target, marks=[pytest.mark.slow] * ((name, target) not in FAST))
    for name in MODELS
    for target in OPERATIONS
]


@pytest.mark.parametrize(("name", "target"), CASES)
def test_no_file_moves_data_about(name: str, target: str, exported: Exported) -> None:
    assert moved(target, exported(name, target).path) == []


@pytest.mark.slow
@pytest.mark.parametrize("target", OPERATIONS)
def test_pictures_are_turned_once_where_a_format_wants_planes(target: str, exported: Exported) -> None:
    """The uint8 image is N×H×W×3 as cameras give it: asked for, and at the edge."""
    found = moved(target, exported("sinet", target, preprocess="baked").path)
    assert len(found) == (1 if target in ("onnx", "openvino") else 0)


@pytest.mark.parametrize("target", ["onnx", "tflite"])
def test_a_graph_without_rewrites_would_be_caught(target: str, tmp_path: Path) -> None:
    require(target)
    path = tmp_path / f"plain{TARGETS[target].suffix}"
    TARGETS[target].convert(plan_of(graph_of("sinet")), path)
    assert len(moved(target, path)) >= 8
