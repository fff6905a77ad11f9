"""Bisection names the operation a defect was seeded in, on every format that shows its values; of a sound file none."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx, nn

from lightseg.errors import ParityError, Unsupported
from lightseg.export import export
from lightseg.export.bisection import Bisection, bisect, bisection, first_to_fail, traced
from lightseg.export.defects import GRAPH_DEFECTS
from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_nodes
from lightseg.export.inside import INSIDES, open_inside
from lightseg.export.inside.part import part_before
from lightseg.export.pipeline import Request
from lightseg.export.reproduction import write_reproduction
from lightseg.export.targets import TARGETS, Plan
from lightseg.export.trace import Layer, provenance
from lightseg.export.verify_cli import main
from lightseg.export.wrong_graph import off
from tests.export.conftest import Exported
from tests.export.subjects import graph_of, plain, reference, require

REF = "sinet"
LOCAL = [
    "align_corners flipped", "negative slopes dropped", "padding off by one", "kernel rolled",
    "kernel height and width swapped", "weight layout mixed up", "stale weights in one layer", "a weight is NaN",
]  # fmt: skip
"""Defects of one operation."""


class Seeded:
    """A target's conversion of a damaged graph; ``node`` is where it was damaged."""

    def __init__(self, target: str, defect: str, site: int) -> None:
        self.convert, self.defect, self.site = TARGETS[target].convert, defect, site
        self.node = ""

    def __call__(self, plan: Plan, path: Path) -> None:
        damaged = list(GRAPH_DEFECTS[self.defect](plan.graph))
        if self.site >= len(damaged):
            pytest.skip(f"no place {self.site} for it in this target's graph")
        self.node = _difference(plan.graph, damaged[self.site])
        self.convert(replace(plan, graph=damaged[self.site]), path)


def _difference(graph: fx.GraphModule, damaged: fx.GraphModule) -> str:
    """The node whose operation differs; the last where the graphs have other nodes."""
    kept = dict(damaged.named_children())
    for node, op in op_nodes(graph):
        if str(node.target) in kept and not _same(op, kept[str(node.target)]):
            return str(node.name)
    return str(next(n for n in graph.graph.nodes if n.op == "output").args[0])


def _same(a: nn.Module, b: nn.Module) -> bool:
    facts = [{k: v for k, v in vars(m).items() if not k.startswith("_")} for m in (a, b)]
    ours, theirs = (dict(m.named_buffers()) for m in (a, b))
    return facts[0] == facts[1] and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.fixture
def failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, int], tuple[Path, str]]:
    """The file kept from an export that was refused, and the node it was damaged in."""

    def make(target: str, defect: str, site: int = 0) -> tuple[Path, str]:
        require(target)
        seeded, ref = Seeded(target, defect, site), reference(REF)
        with monkeypatch.context() as patch:
            patch.setitem(TARGETS, target, replace(TARGETS[target], convert=seeded))
            with pytest.raises(ParityError):
                export(ref.model, target, tmp_path, Request(input_size=ref.size, capabilities=()), ref)
        (path,) = (p for p in tmp_path.iterdir() if p.name.endswith(".failed"))
        return path, seeded.node

    return make


def named(path: Path, node: str) -> Bisection:
    """Bisect ``path`` and check that ``node`` is what it names."""
    found = bisect(path, reference=reference(REF))
    assert found.culprit is not None and (found.blame, found.culprit.node) == ("operation", node), found.said
    assert not found.ok and not found.equal and not found.culprit.passes and not found.culprit.passes_alone
    return found


QUICK = {
    ("onnx", "kernel rolled", 1),
    ("tflite", "negative slopes dropped", 1),
    ("coreml", "stale weights in one layer", 1),
    ("ncnn", "padding off by one", 1),
}
CASES = [
    pytest.param(*case, marks=[pytest.mark.slow] * (case not in QUICK))
    for case in ((target, defect, site) for target in INSIDES for defect in LOCAL for site in range(3))
]


@pytest.mark.parametrize(("target", "defect", "site"), CASES)
def test_the_damaged_operation_is_named(target: str, defect: str, site: int, failed: Any) -> None:
    found = named(*failed(target, defect, site))
    wrong_alone = [layer.node for layer in found.layers if not layer.passes_alone]
    assert found.culprit is not None and wrong_alone == [found.culprit.node]


@pytest.mark.slow
def test_what_was_put_behind_the_network_is_found_in_the_last_value(failed: Any) -> None:
    named(*failed("onnx", "classes swapped"))


@pytest.mark.slow
def test_a_branch_that_is_missing_is_found_where_it_should_have_joined(failed: Any) -> None:
    path, _ = failed("tflite", "branch dropped")
    trace, parity = traced(path, None, reference(REF))
    found = bisection(trace, parity)
    assert found.culprit is not None and found.blame == "operation"
    sums = [node for node, op in op_nodes(trace.plan.graph) if isinstance(op, ops.Add)]
    (dropped,) = (node for node in sums if node.name not in trace.found)
    assert found.culprit.node in {user.name for user in dropped.users}


SOUND = [
    pytest.param(target, options, marks=[pytest.mark.slow] * (target not in ("tflite", "ncnn") or bool(options)))
    for target in INSIDES
    for options in ({}, {"preprocess": "baked", "output": "mask"}, {"output": "probability"}, {"precision": "fp16"})
]


@pytest.mark.parametrize(("target", "options"), SOUND)
def test_a_sound_file_has_no_culprit(target: str, options: dict[str, str], exported: Exported) -> None:
    if options.get("precision", "fp32") not in TARGETS[target].precisions:
        pytest.skip(f"{target} is not written in {options['precision']}")
    found = bisect(exported(REF, target, **options).path, reference=reference(REF))
    assert (found.blame, found.culprit, found.ok, found.equal) == ("nothing", None, True, True), found.said
    seen = [layer for layer in found.layers if layer.cumulative is not None]
    assert len(seen) > 0.9 * len(found.layers) and all(layer.passes_alone and layer.reads for layer in seen)


def _halved(graph: fx.GraphModule) -> int:
    """A rewrite that is none: it halves the slopes of one PReLU, once."""
    prelus = [op for _, op in op_nodes(graph) if isinstance(op, ops.PReLU)]
    if any(hasattr(op, "halved") for op in prelus):
        return 0
    prelus[0].slope, prelus[0].halved = prelus[0].slope / 2, True  # type: ignore[assignment]
    return 1


def test_a_wrong_rewrite_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("tflite")
    rules = TARGETS["tflite"].rewrites()
    wrong = replace(TARGETS["tflite"], rewrites=lambda: (*rules[:2], _halved, *rules[2:]))
    monkeypatch.setitem(TARGETS, "tflite", wrong)
    found = _refused("tflite", tmp_path, reference(REF))
    assert found.blame == "rewrite" and found.said.endswith("_halved") and found.culprit is None


def test_a_wrong_capture_is_told_from_a_wrong_file(tmp_path: Path) -> None:
    require("onnx")
    ref = copy.copy(reference(REF))
    ref.__dict__["graph"] = next(GRAPH_DEFECTS["negative slopes dropped"](ref.graph))
    found = _refused("onnx", tmp_path, ref)
    assert found.blame == "capture" and found.culprit is None and not found.ok


def _refused(target: str, folder: Path, ref: Any) -> Bisection:
    with pytest.raises(ParityError):
        export(ref.model, target, folder, Request(input_size=ref.size), ref)
    (path,) = folder.glob("*.failed")
    return bisect(path, reference=ref)


@pytest.mark.parametrize("target", [pytest.param(t, marks=[pytest.mark.slow] * (t != "onnx")) for t in INSIDES])
def test_the_reproduction_runs_and_shows_the_fault(target: str, failed: Any, tmp_path: Path) -> None:
    path, node = failed(target, "stale weights in one layer", 1)
    trace, parity = traced(path, None, reference(REF))
    folder = write_reproduction(trace, bisection(trace, parity), tmp_path / "out")
    assert folder is not None and folder.name == f"{path.name}.{node}"
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = subprocess.run([sys.executable, str(folder / "reproduce.py")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and node in done.stdout and "worst at" in done.stdout, done.stderr


def test_values_know_their_module_and_line() -> None:
    graph = graph_of(REF)
    for node, _ in op_nodes(graph):
        module, source = provenance(f"{node.name}_made_by_a_rewrite", graph)
        assert module and source.startswith("lightseg/models/") and source.count(":") >= 2
    assert provenance("nothing_of_it", graph) == ("", "")


def test_the_first_to_fail_has_inputs_that_pass() -> None:
    def layer(node: str, error: float | None, *reads: str) -> Layer:
        return Layer(node, "Conv", "", "", reads, error, 1.0, error, 1.0)

    bad = layer("c", float("nan"), "a")
    layers = (layer("a", 0.5, "image"), layer("b", None), bad, layer("d", 2.0, "c"), layer("e", 3.0, "a"))
    assert first_to_fail(layers) is bad and first_to_fail(layers[:2]) is None


def test_errors_are_shares_of_the_largest_value_or_of_the_floor() -> None:
    exact = np.array([3e-54, 0.0])
    assert off(np.array([4e-39, 0.0]), exact) > 1e10 and off(np.array([4e-39, 0.0]), exact, 1e-34) < 1e-4
    assert off(np.array([2.0, 0.0]), np.array([1.0, 0.0]), 1e-34) == 1 and off(exact[:1], exact) == np.inf
    assert off(np.array([1, 0]), np.array([1, 1], np.uint8)) == 0.5
    assert not off(np.array([np.nan, 0.0]), exact, 1.0) <= 1


def test_a_part_ends_at_known_values() -> None:
    makes, reads = ["a", "b", "c", "d"], [["image"], ["a"], ["b", "a"], ["c", "image"]]
    part = part_before("d", makes, reads, {"a", "d"})
    assert part.steps == (1, 2, 3) and set(part.inputs) == {"a", "image"}


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file of the random weights, with its reference at hand."""
    require("onnx")
    ref = plain(REF)
    monkeypatch.setattr("lightseg.export.bisection.Reference", lambda *_: ref)
    return export(ref.model, "onnx", tmp_path, Request(input_size=ref.size), ref).path


def _change(path: Path, **facts: Any) -> None:
    sidecar = path.with_name(path.name + ".json")
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | facts))


def test_the_command_prints_every_value_and_the_verdict(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(own), "--bisect"]) == 0
    out = capsys.readouterr().out
    assert "every operation passes" in out and "join3_act" in out and "nothing is fused" in out


def test_a_folder_for_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["some.onnx", "--out", "here"])
    assert caught.value.code == 2 and "--bisect" in capsys.readouterr().err


def test_a_rewrite_that_is_gone_is_one_line(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _change(own, changes={"fold_nothing": 1})
    assert main([str(own), "--bisect"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "fold_nothing" in error and "export it again" in error


def test_the_command_fails_with_json_and_reproduction(
    failed: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, node = failed("onnx", "kernel rolled", 1)
    monkeypatch.setattr("lightseg.export.bisection.model_of", lambda *_: reference(REF).model)
    monkeypatch.setattr("lightseg.export.bisection.Reference", lambda *_: reference(REF))
    assert main([str(path), "--bisect", "--json", "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    (result,) = json.loads(said.out)
    assert (result["ok"], result["blame"], result["culprit"]["node"]) == (False, "operation", node)
    assert Path(result["reproduction"], "reproduce.py").is_file() and said.err.count("\n") == 1 and node in said.err


def test_a_target_that_shows_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="--bisect looks into"):
        open_inside("unheard_of", tmp_path, [])


def test_every_target_of_today_shows_its_values() -> None:
    assert set(INSIDES) == set(TARGETS)
