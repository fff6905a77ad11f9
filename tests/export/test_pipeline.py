"""Export as a whole: a wrong file never looks like a good one, and a broken run leaves the earlier one whole."""

from __future__ import annotations

import copy
import errno
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightseg.errors import OutputError, ParityError
from lightseg.export import export, read_artifact, verify
from lightseg.export.artifact import Artifact
from lightseg.export.defects import GRAPH_DEFECTS, PREPROCESS_DEFECTS, RUNNER_DEFECTS
from lightseg.export.graph import ops
from lightseg.export.graph.compose import bake_preprocess
from lightseg.export.pipeline import Request
from lightseg.export.targets import TARGETS, Plan
from lightseg.spec import Preprocess
from tests.export.conftest import Exported
from tests.export.subjects import SLOW_WRITERS, lively, reference, require, small_size
from tests.export.targets_of import targets

BY_TARGET = pytest.mark.parametrize("target", targets(SLOW_WRITERS))
Convert = Callable[[Plan, Path], None]


@pytest.fixture
def again(exported: Exported, tmp_path: Path) -> Callable[..., Artifact]:
    """Export the small SINet to where a good artifact of it lies already."""

    def run(target: str, **options: Any) -> Artifact:
        require(target)
        request = Request(input_size=small_size("sinet"), capabilities=(), **options)
        return export(lively("sinet"), target, tmp_path, request, reference("sinet"))

    return run


@pytest.fixture
def earlier(exported: Exported, tmp_path: Path) -> Callable[..., Path]:
    """``earlier(target)`` puts a good artifact into the folder `again` writes to."""

    def put(target: str, **options: Any) -> Path:
        artifact = exported("sinet", target, **options)
        path = tmp_path / artifact.path.name
        (shutil.copytree if artifact.path.is_dir() else shutil.copy)(artifact.path, path)
        shutil.copy(artifact.sidecar, tmp_path)
        return path

    return put


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def sabotage(monkeypatch: pytest.MonkeyPatch, target: str, **functions: Any) -> None:
    monkeypatch.setitem(TARGETS, target, replace(TARGETS[target], **functions))


def with_defect(target: str, defect: str) -> Convert:
    """The target's own conversion, of a damaged graph."""
    convert = TARGETS[target].convert

    def damaged(plan: Plan, path: Path) -> None:
        convert(replace(plan, graph=next(GRAPH_DEFECTS[defect](plan.graph))), path)

    return damaged


@pytest.mark.parametrize(
    "defect",
    ["classes swapped", "a weight is NaN", "stale weights in one layer", "kernel rolled", "branch dropped"],
)
@BY_TARGET
def test_failed_proof_leaves_the_earlier_artifact_and_a_failed_one(
    target: str,
    defect: str,
    earlier: Callable[..., Path],
    again: Callable[..., Artifact],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    path = earlier(target)
    before = contents(tmp_path)
    sabotage(monkeypatch, target, convert=with_defect(target, defect))
    with pytest.raises(ParityError) as caught:
        again(target)
    message = str(caught.value)
    assert "allowed" in message or "NaN" in message
    assert f"{path.name}.failed" in message and "\n" not in message
    assert {k: v for k, v in contents(tmp_path).items() if ".failed" not in k} == before
    failed = read_artifact(path.with_name(path.name + ".failed"))
    assert failed.parity is not None and failed.parity["ok"] is False
    with pytest.raises(ParityError):
        verify(failed.path)


@pytest.mark.parametrize("defect", ["align_corners flipped", "negative slopes dropped", "batch-norm shift dropped"])
@BY_TARGET
def test_a_wrong_capture_fails(target: str, defect: str, tmp_path: Path) -> None:
    """The reference's logits come from the network itself, not from the graph that is written."""
    require(target)
    ref = copy.copy(reference("sinet"))
    ref.__dict__["graph"] = next(GRAPH_DEFECTS[defect](ref.graph))
    with pytest.raises(ParityError):
        export(ref.model, target, tmp_path, Request(input_size=ref.size), ref)


@pytest.mark.parametrize("defect", PREPROCESS_DEFECTS)
def test_wrong_baking_fails_in_the_file(
    defect: str, again: Callable[..., Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(graph: Any, preprocess: Preprocess) -> None:
        bake_preprocess(graph, PREPROCESS_DEFECTS[defect](preprocess))

    monkeypatch.setattr("lightseg.export.pipeline.bake_preprocess", wrong)
    with pytest.raises(ParityError):
        again("onnx", preprocess="baked")


@pytest.mark.parametrize("defect", ["input NCHW read as NHWC", "output NHWC read as NCHW", "NaN in one pixel"])
@BY_TARGET
def test_wrong_runtime_fails(
    target: str, defect: str, again: Callable[..., Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = TARGETS[target].load

    class Wrong:
        def __init__(self, path: Path, threads: int) -> None:
            self._runner = load(path, threads)
            self.name, self.details = self._runner.name, self._runner.details

        def __call__(self, x: Any) -> Any:
            return RUNNER_DEFECTS[defect](lambda v: np.array(self._runner(v)), x)

    sabotage(monkeypatch, target, load=Wrong)
    with pytest.raises(ParityError):
        again(target)


def test_same_padding_at_stride_two_fails(again: Callable[..., Artifact], monkeypatch: pytest.MonkeyPatch) -> None:
    """The defect most TFLite ports have: SAME pads below and right where PyTorch pads above and left."""
    require("tflite")
    from lightseg.export.writers import tflite_convolutions as convolutions

    monkeypatch.setattr(convolutions, "_padded", lambda w, node, op, x: (x, convolutions.SAME))
    with pytest.raises(ParityError):
        again("tflite")


@pytest.mark.parametrize("module", ["onnx", "tflite"])
def test_half_pixels_in_place_of_corners_fail(
    module: str, again: Callable[..., Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    require(module)
    import importlib

    table = importlib.import_module(f"lightseg.export.writers.{module}").WRITERS
    write = table[ops.Upsample]

    def flipped(*args: Any) -> Any:
        changed = [ops.Upsample(a.factor, not a.align_corners) if isinstance(a, ops.Upsample) else a for a in args]
        return write(*changed)

    monkeypatch.setitem(table, ops.Upsample, flipped)
    with pytest.raises(ParityError):
        again(module)


BREAKS: dict[str, tuple[BaseException, type[BaseException]]] = {
    "a bug": (RuntimeError("boom"), RuntimeError),
    "disk full": (OSError(errno.ENOSPC, "No space left on device"), OutputError),
    "read-only disk": (OSError(errno.EROFS, "Read-only file system"), OutputError),
    "interrupt": (KeyboardInterrupt(), KeyboardInterrupt),
}


def raising(error: BaseException) -> Any:
    def fail(*args: Any) -> Any:
        for path in args:
            if isinstance(path, Path) and not path.is_dir():
                path.write_bytes(b"half")
        raise error

    return fail


@pytest.mark.parametrize("where", ["convert", "load", "stamp", "sidecar"])
@pytest.mark.parametrize("what", BREAKS)
def test_a_break_leaves_the_earlier_artifact_whole(
    what: str,
    where: str,
    earlier: Callable[..., Path],
    again: Callable[..., Artifact],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    path = earlier("onnx")
    before = contents(tmp_path)
    error, seen = BREAKS[what]
    if where == "sidecar":
        monkeypatch.setattr("lightseg.export.pipeline.sidecar_text", raising(error))
    else:
        sabotage(monkeypatch, "onnx", **{where: raising(error)})
    with pytest.raises(seen) as caught:
        again("onnx")
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before
    monkeypatch.undo()
    assert verify(path).goldens


def test_a_stop_between_the_two_renames_leaves_a_usable_artifact(
    earlier: Callable[..., Path], again: Callable[..., Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    """File and sidecar cannot be replaced in one step; the record inside the file bridges the gap."""
    path = earlier("onnx")
    rename, done = Path.replace, list[Path]()

    def stop_after_one(self: Path, target: Path) -> Path:
        if done:
            raise KeyboardInterrupt
        done.append(target)
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        again("onnx")
    monkeypatch.undo()
    assert done == [path]
    assert verify(path).goldens


KILLED = """
import os, signal, sys
from dataclasses import replace
from lightseg import create_model
from lightseg.export import export
from lightseg.export.targets import TARGETS

def die(plan, path):
    path.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)

TARGETS["onnx"] = replace(TARGETS["onnx"], convert=die)
export(create_model("sinet", "random"), "onnx", sys.argv[1], input_size=(96, 64))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_process_leaves_the_earlier_artifact_whole(earlier: Callable[..., Path], tmp_path: Path) -> None:
    path = earlier("onnx")
    before = contents(tmp_path)
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    after = contents(tmp_path)
    assert before.items() <= after.items()
    assert all(name.startswith(".") for name in after.keys() - before.keys()), (
        "a half-written file looks like a good one"
    )
    assert verify(path).goldens


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(OutputError, match="--out"):
        export(lively("sinet"), "onnx", tmp_path / "out", Request(input_size=small_size("sinet")), reference("sinet"))


def test_out_folder_is_made(again: Callable[..., Artifact], tmp_path: Path) -> None:
    request = Request(input_size=small_size("sinet"))
    artifact = export(lively("sinet"), "onnx", tmp_path / "a" / "b", request, reference("sinet"))
    assert {p.name for p in (tmp_path / "a" / "b").iterdir()} == {artifact.path.name, artifact.sidecar.name}
