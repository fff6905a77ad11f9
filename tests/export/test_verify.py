"""Verification from the file alone, and against PyTorch: what is stale or damaged does not pass."""

from __future__ import annotations

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

from lightseg.errors import ParityError
from lightseg.export import export, load, read_artifact, verify, verify_cli
from lightseg.export.parity import check_goldens
from lightseg.export.pipeline import Request
from lightseg.export.reference import Reference
from lightseg.export.targets import TARGETS
from lightseg.weights import save_weights
from lightseg.zoo import create_model
from tests.export.conftest import Exported
from tests.export.subjects import SLOW_WRITERS, lively, plain, reference, require, small_size
from tests.export.targets_of import pairs, targets


@pytest.mark.parametrize(("name", "target"), pairs(SLOW_WRITERS))
def test_goldens_repeat(name: str, target: str, exported: Exported) -> None:
    found = verify(exported(name, target).path)
    assert found.parity is None and found.goldens
    for golden in found.goldens:
        assert 0 <= golden["max_error"] <= golden["allowed"] and golden["flips"] <= golden["ties"]
    json.dumps(found.to_dict())


@pytest.mark.parametrize("target", targets(SLOW_WRITERS))
def test_against_pytorch(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require(target)
    ref = plain("sinet")
    artifact = export(ref.model, target, tmp_path, Request(input_size=ref.size), ref)
    monkeypatch.setattr("lightseg.export.reference.Reference", lambda model, height, width: ref)
    found = verify(artifact.path, torch=True)
    assert found.parity is not None and found.parity.ok
    assert len(found.parity.probes) == len(ref.probes)


def test_weights_that_changed_without_a_word_are_caught_by_the_numbers(exported: Exported) -> None:
    """The lively model's record names the random weights it was made from; PyTorch answers for those."""
    with pytest.raises(ParityError, match="allowed"):
        verify(exported("sinet", "onnx").path, torch=True)


def test_stale_weights_are_told_by_their_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("onnx")
    old, new = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    for path, seed in ((old, 1), (new, 2)):
        model = create_model("sinet", "random", seed)
        save_weights(path, model.spec, model.weights, model.net.state_dict())
    model = create_model("sinet", old)
    ref = Reference(model, *small_size("sinet"))
    ref.__dict__["graph"] = _graph_with(model)
    artifact = export(model, "onnx", tmp_path, Request(input_size=ref.size), ref)
    monkeypatch.setattr("lightseg.export.reference.Reference", lambda *_: ref)
    assert verify(artifact.path, torch=True, weights=str(old)).parity is not None
    with pytest.raises(ParityError, match="stale") as caught:
        verify(artifact.path, torch=True, weights=str(new))
    assert "\n" not in str(caught.value)


def _graph_with(model: Any) -> Any:
    from lightseg.export.graph.capture import capture

    return capture(model, *small_size("sinet"), model.spec.multiple)


@pytest.fixture
def alone(exported: Exported, tmp_path: Path) -> Callable[..., Path]:
    """A copy without its sidecar: nothing but the goldens inside can tell that it was changed."""

    def copy(name: str, target: str) -> Path:
        artifact = exported(name, target)
        copier = shutil.copytree if artifact.path.is_dir() else shutil.copy
        return Path(copier(artifact.path, tmp_path / artifact.path.name))

    return copy


def _swap_rows(weight: Any) -> None:
    weight[[0, 1]] = weight[[1, 0]]


def _zero_one(weight: Any) -> None:
    weight.reshape(-1)[np.abs(weight).argmax()] = 0


def _nudge(weight: Any) -> None:
    weight *= 1.05


def _nan(weight: Any) -> None:
    weight.reshape(-1)[0] = np.nan


CHANGES = {"two filters swapped": _swap_rows, "largest weight zero": _zero_one, "5 % larger": _nudge, "NaN": _nan}


@pytest.mark.parametrize("which", [0, -1], ids=["first layer", "last layer"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["sinet", "c3net"])
def test_goldens_catch_a_changed_weight_in_onnx(name: str, change: str, which: int, alone: Callable[..., Path]) -> None:
    onnx = pytest.importorskip("onnx")
    path = alone(name, "onnx")
    model = onnx.load(str(path))
    big = [i for i in model.graph.initializer if len(i.dims) == 4 and i.dims[0] > 1]
    weight = np.array(onnx.numpy_helper.to_array(big[which]))
    CHANGES[change](weight)
    big[which].CopyFrom(onnx.numpy_helper.from_array(weight, big[which].name))
    path.write_bytes(model.SerializeToString())
    _caught(path)


@pytest.mark.parametrize("which", [0, -1], ids=["first layer", "last layer"])
@pytest.mark.parametrize("change", CHANGES)
def test_goldens_catch_a_changed_weight_in_tflite(change: str, which: int, alone: Callable[..., Path]) -> None:
    require("tflite")
    from lightseg.export.writers.flatbuffer import pack, unpack

    path = alone("sinet", "tflite")
    model = unpack(path.read_bytes())
    graph = model.subgraphs[0]
    big = [
        t
        for t in graph.tensors
        if t.shape is not None and len(t.shape) == 4 and model.buffers[t.buffer].data is not None
    ]
    tensor = [t for t in big if t.shape[0] > 1][which]
    weight = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.float32).reshape(tensor.shape).copy()
    CHANGES[change](weight)
    model.buffers[tensor.buffer].data = np.frombuffer(weight.tobytes(), np.uint8)
    path.write_bytes(pack(model))
    _caught(path)


def _caught(path: Path) -> None:
    with pytest.raises(ParityError, match="golden output") as caught:
        verify(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fact", ["largest", "mean"])
def test_a_limit_that_is_no_number_passes_nothing(fact: str, exported: Exported) -> None:
    """Neither by itself nor, as test_artifact.py shows, in a record."""
    artifact = exported("sinet", "onnx")
    changed: dict[str, Any] = {fact: float("nan")}
    golden = replace(artifact.golden[0], **changed)
    with pytest.raises(ParityError):
        check_goldens(replace(artifact, golden=(golden,)), load(artifact.path))


def test_lively_and_plain_models_differ() -> None:
    """What the tests above tell apart."""
    assert reference("sinet").model is lively("sinet") and plain("sinet").model is not lively("sinet")


WITHOUT = """
import json, sys
command, hidden = json.loads(sys.argv[1])

class Hidden:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Hidden, sys.meta_path)
from lightseg.export import load, verify
from lightseg.export.verify_cli import main
code = main(command)
assert not set(hidden) & sys.modules.keys()
sys.exit(code)
"""


def _without_torch(target: str, *command: str) -> subprocess.CompletedProcess[str]:
    """`lightseg-verify` where nothing but the core's small packages and this target's runtime is installed."""
    extras = {m for t in TARGETS.values() for m in (*t.convert_needs, *t.load_needs)}
    hidden = sorted(({"torch", "safetensors"} | extras) - set(TARGETS[target].load_needs))
    argv = [sys.executable, "-c", WITHOUT, json.dumps([command, hidden])]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("target", targets(SLOW_WRITERS))
def test_a_machine_without_pytorch_repeats_the_proof(target: str, alone: Callable[..., Path]) -> None:
    """The reference interpreters are PyTorch: where one stands in for a Mac or a GPU, one line says so."""
    path = alone("sinet", target)
    done = _without_torch(target, str(path))
    if target.startswith(("tensorrt", "executorch")) or (target == "coreml" and sys.platform != "darwin"):
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and "pip install torch" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert "proven" in done.stdout


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["a.onnx", "--weights", "w.pth"], "--weights is for a comparison with PyTorch"),
        (["a.onnx", "--limit", "3"], "--limit is a number of photographs"),
        (["a.onnx", "--precision", "int8", "--to", "onnx"], "takes no notice of --to, --precision"),
        (["a.onnx", "--bisect", "--torch", "--images", "d"], "--bisect takes no notice of --torch, --images"),
        (["a.onnx", "--gpu-delegate", "--weights", "w.pth"], "--gpu-delegate takes no notice of --weights"),
        (["--self-test", "--runtime", "tensorflow"], "--self-test takes no notice of --runtime"),
        (["--self-test", "--bisect"], "--self-test takes no notice of --bisect"),
        (["--self-test", "some.onnx"], "leave out the names"),
        ([], "say which files"),
    ],
)
def test_options_that_would_change_nothing_are_refused(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        verify_cli.main(argv)
    assert caught.value.code == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize("asked", ["--torch", "--bisect"])
def test_asking_for_pytorch_where_there_is_none_is_one_line(asked: str, exported: Exported) -> None:
    done = _without_torch("onnx", str(exported("sinet", "onnx").path), asked)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "pip install torch" in done.stderr


def test_reading_the_record_takes_no_package_of_the_format(exported: Exported, tmp_path: Path) -> None:
    from onnx import load as load_onnx

    artifact = exported("sinet", "onnx")
    properties = {p.key: p.value for p in load_onnx(str(artifact.path)).metadata_props}
    record = TARGETS["onnx"].read_record(artifact.path)
    assert record is not None and properties == {"lightseg": record}
    assert json.loads(record)["model"] == read_artifact(artifact.path).model
