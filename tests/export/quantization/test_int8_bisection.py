"""--bisect of int8 files: the damaged value is named with its line, and a sound file has none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lightseg.errors import ParityError, Unsupported
from lightseg.export import export
from lightseg.export.artifact import Artifact, read_artifact
from lightseg.export.graph.edit import op_nodes
from lightseg.export.graph.quantised import QuantisedConv
from lightseg.export.int8_bisection import bisect_int8, simulated, summary, table
from lightseg.export.int8_defects import GRID_DEFECTS
from lightseg.export.pipeline import Request
from lightseg.export.quantization.plan import RECIPE, Wish
from lightseg.export.targets import TARGETS, Plan
from lightseg.export.verify_cli import main
from tests.export.quantization.made import ANYTHING, photographs
from tests.export.subjects import plain, require

TARGETS_TRIED = ["onnx", pytest.param("tflite", marks=pytest.mark.slow)]


class Damaged:
    """A conversion of a graph with a defect in the numbers; ``before`` are the values that are right still."""

    def __init__(self, target: str, defect: str) -> None:
        self.convert, self.defect, self.conv = TARGETS[target].convert, defect, ""

    def __call__(self, plan: Plan, path: Path) -> None:
        *_, graph = GRID_DEFECTS[self.defect](plan.graph)
        whole = {n.name: op for n, op in op_nodes(plan.graph) if isinstance(op, QuantisedConv)}
        changed = {n.name: op for n, op in op_nodes(graph) if isinstance(op, QuantisedConv)}
        (self.conv,) = (name for name, op in whole.items() if not _same(op, changed[name]))
        self.convert(replace(plan, graph=graph), path)


def _same(a: QuantisedConv, b: QuantisedConv) -> bool:
    ours, theirs = dict(a.named_buffers()), dict(b.named_buffers())
    return all(bool((ours[key] == theirs[key]).all()) for key in ours)


def exported(target: str, folder: Path) -> Artifact:
    require(target)
    one = plain("sinet")
    return export(
        one.model, target, folder, Request("int8", one.size, int8=Wish(photographs(), max_drop=ANYTHING)), one
    )


@pytest.mark.parametrize("target", TARGETS_TRIED)
def test_the_damaged_convolution_is_among_what_computes_the_value_named(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = Damaged(target, "weights of four bits")
    monkeypatch.setitem(TARGETS, target, replace(TARGETS[target], convert=damaged))
    with pytest.raises(ParityError):
        exported(target, tmp_path)
    monkeypatch.undo()
    (path,) = (p for p in tmp_path.iterdir() if p.name.endswith(".failed"))
    found = bisect_int8(read_artifact(path), reference=plain("sinet"))
    assert found.culprit is not None and not found.ok
    assert f"QuantisedConv {damaged.conv}" in found.culprit.operations
    assert found.culprit.source.startswith("lightseg/models/") and found.culprit.reads
    said = summary(found)
    assert found.culprit.node in said and "source: lightseg/models/" in said and table(found).row_count > 50
    monkeypatch.setattr("lightseg.export.int8_bisection.Reference", lambda *_: plain("sinet"))
    monkeypatch.setattr("lightseg.export.int8_bisection.model_of", lambda *_: plain("sinet").model)
    assert main([str(path), "--bisect"]) == 1
    shown = capsys.readouterr()
    assert "FIRST WRONG" in shown.out and shown.err.count("\n") == 1 and found.culprit.node in shown.err


@pytest.mark.parametrize("target", TARGETS_TRIED)
def test_a_sound_file_has_no_culprit(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = exported(target, tmp_path)
    found = bisect_int8(artifact, reference=plain("sinet"))
    assert found.ok and found.culprit is None and found.to_dict()["ok"]
    assert len(found.values) > 50 and all(value.furthest <= 1 for value in found.values)
    assert artifact.quantization is not None
    old = replace(artifact, quantization={k: v for k, v in artifact.quantization.items() if k != RECIPE})
    with pytest.raises(Unsupported, match="holds no int8 grids: export it again"):
        simulated(old, plain("sinet"))


def test_reproductions_are_not_of_int8(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    artifact = exported("onnx", tmp_path)
    assert main([str(artifact.path), "--bisect", "--out", str(tmp_path / "out")]) == 1
    assert "leave out --out" in capsys.readouterr().err
