"""LiteRT's GPU delegate takes our TFLite files whole and answers as PyTorch does; what it does not take it says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lightseg.errors import Unsupported
from lightseg.export import gpu_delegate
from lightseg.export.artifact import read_artifact, write_sidecar
from lightseg.export.gpu_delegate import OnGpu, on_gpu, why_not
from lightseg.export.graph import ops
from lightseg.export.graph.compose import append_head
from lightseg.export.graph.edit import op_nodes
from lightseg.export.rewrites import rewrite
from lightseg.export.targets import TARGETS
from lightseg.export.verify_cli import main
from lightseg.export.writers.flatbuffer import FlatModel
from lightseg.files import sha256_of
from lightseg.zoo import MODELS
from tests.export.conftest import Exported
from tests.export.subjects import graph_of

VARIANTS = [{}, {"output": "mask", "preprocess": "baked"}]


@pytest.fixture
def driver() -> None:
    reason = why_not()
    if reason:
        pytest.skip(reason)


@pytest.mark.parametrize("options", VARIANTS, ids=["logits", "mask"])
@pytest.mark.parametrize("name", ["sinet", *(pytest.param(n, marks=pytest.mark.slow) for n in MODELS if n != "sinet")])
def test_every_operator_runs_on_the_gpu_delegate(
    name: str, options: dict[str, str], driver: None, exported: Exported
) -> None:
    found = on_gpu(exported(name, "tflite", **options).path)
    assert found.ok, str(found)
    assert found.operators > 100 and (found.relative_error is None) == bool(options)


@pytest.mark.slow
def test_half_weights_too(driver: None, exported: Exported) -> None:
    assert on_gpu(exported("sinet", "tflite", precision="fp16").path).ok


def test_what_it_does_not_take_is_named(
    driver: None, exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five dimensions, as a channel shuffle has them where it is not rewritten."""
    flat = FlatModel()
    image, split = flat.tensor("image", (1, 8, 8, 4)), flat.tensor("split", (1, 8, 8, 2, 2))
    flat.operator("RESHAPE", [image, flat.constant("five", (1, 8, 8, 2, 2), "int32")], split, newShape=(1, 8, 8, 2, 2))
    whole = flat.tensor("logits", (1, 8, 8, 4))
    flat.operator("RESHAPE", [split, flat.constant("four", (1, 8, 8, 4), "int32")], whole, newShape=(1, 8, 8, 4))
    artifact = exported("sinet", "tflite")
    path = tmp_path / artifact.path.name
    path.write_bytes(flat.finish({"image": image}, {"logits": whole}))
    kept = read_artifact(artifact.path)
    object.__setattr__(kept, "path", path)
    object.__setattr__(kept, "sha256", sha256_of(path))
    write_sidecar(kept)
    found = on_gpu(path)
    assert {text.partition(":")[0] for text in found.refused} == {"RESHAPE"} and not found.ok
    assert main([str(path), "--gpu-delegate"]) == 1
    said = capsys.readouterr().err
    assert "does not take RESHAPE" in said and said.count("\n") == 1


@pytest.mark.parametrize("output", ["logits", "mask"])
@pytest.mark.parametrize("name", ["sinet", *(pytest.param(n, marks=pytest.mark.slow) for n in MODELS if n != "sinet")])
def test_graphs_hold_nothing_that_ends_it_or_misleads_it(name: str, output: str) -> None:
    """Seen: convolutions in groups off fours end the process; an argmax behind a slice reads what was sliced away."""
    graph = graph_of(name)
    append_head(graph, MODELS[name], output)  # type: ignore[arg-type]
    rewrite(graph, TARGETS["tflite"].rewrites())
    for _, op in op_nodes(graph):
        assert not isinstance(op, ops.Permute | ops.FirstChannels)
        if isinstance(op, ops.Conv) and op.groups > 1 and not op.is_depthwise:
            assert op.weight.shape[1] % 4 == op.weight.shape[0] // op.groups % 4 == 0


ENDED = {
    "listed": (
        1,
        "INFO: x\nERROR: Following operations are not supported by GPU delegate:\nRESHAPE: Too many. a;\nCAST: No.\n"
        "50 operations will run on the GPU\n",
        ("RESHAPE: Too many. a;", "CAST: No."),
    ),
    "killed": (-4, "INFO: x\n", ("it: the process ended with -4",)),
    "otherwise": (1, "Traceback\nRuntimeError: no adapter\n", ("RuntimeError: no adapter",)),
}


@pytest.mark.parametrize("how", ENDED)
def test_how_it_ended_is_told(how: str, exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said, want = ENDED[how]
    monkeypatch.setattr(gpu_delegate, "_driver", lambda environment: Path("/driver/icd.json"))
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, code, "", said))
    found = on_gpu(exported("sinet", "tflite").path)
    assert found.refused == want and not found.ok and "does not take" in str(found)


def test_without_a_driver_it_says_what_to_install(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_delegate, "_driver", lambda environment: None)
    with pytest.raises(Unsupported, match="apt-get install"):
        on_gpu(exported("sinet", "tflite").path)


def test_a_wrong_answer_is_told() -> None:
    assert not OnGpu("a.tflite", 3, (), "a.tflite does not repeat its golden output photo").ok
