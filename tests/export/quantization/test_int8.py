"""int8 from end to end: the file, its record, its refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import fx

from lightseg.errors import BadInput, ParityError, Unsupported
from lightseg.export import export
from lightseg.export.answers import prepared
from lightseg.export.artifact import Artifact, read_artifact
from lightseg.export.bisection import traced
from lightseg.export.cli import main
from lightseg.export.graph.edit import op_nodes
from lightseg.export.graph.quantised import FakeQuantise, QuantisedConv
from lightseg.export.pipeline import Request
from lightseg.export.quantization import selection
from lightseg.export.quantization.plan import COUNT, Wish
from lightseg.export.quantization.quantise import convolutions, quantise
from lightseg.export.quantization.scheme import Scheme
from lightseg.export.quantization.selection import fewest_floats
from lightseg.export.quantization.task_loss import LABELS, OWN, Judge, TaskLoss, allowed
from lightseg.export.targets import TARGETS
from lightseg.export.verification import verify
from lightseg.zoo import MODELS
from tests.export.graph_builder import Builder
from tests.export.quantization.made import ANYTHING, INT8, made, photographs
from tests.export.quantization.photos import write_masks, write_photos
from tests.export.subjects import lively, plain, reference, require


@cache
def exported(target: str, folder: Path) -> Artifact:
    one = plain("sinet")
    wish = Wish(photographs(), max_drop=ANYTHING)
    return export(one.model, target, folder, Request("int8", one.size, int8=wish), one)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("int8")


@pytest.mark.parametrize("target", [t if t == "onnx" else pytest.param(t, marks=pytest.mark.slow) for t in INT8])
def test_a_file_is_proven_recorded_and_verified_from_itself(target: str, folder: Path) -> None:
    require(target)
    artifact = exported(target, folder)
    record = read_artifact(artifact.path)
    assert record.to_dict() == artifact.to_dict() and record.quantization is not None and record.parity is not None
    assert record.parity["runner"][COUNT] == str(record.quantization["int8_layers"]) != "0"
    scheme = TARGETS[target].int8
    assert scheme is not None and (record.quantization["float_layers"] == []) == (scheme.price is None)
    calibration = record.quantization["calibration"]
    assert sum(calibration["images"].values()) == 16 and len(calibration["sha256"]["ranges"]) == 8
    assert record.quantization["task_loss"]["against"] == OWN
    assert len(verify(artifact.path).goldens) == len(artifact.golden)


@pytest.mark.parametrize("target", [t if t == "onnx" else pytest.param(t, marks=pytest.mark.slow) for t in INT8])
def test_weights_are_stored_in_eight_bits(target: str) -> None:
    """Every convolution of the network is int8, but for those the target computes faster in float, and reads a grid."""
    m = made("sinet", target)
    convs = [(n, op) for n, op in op_nodes(m.graph) if isinstance(op, QuantisedConv)]
    assert len(convs) == m.quantised.int8 > 30 and len(convs) + len(m.quantised.floats) > 50
    assert all(isinstance(m.graph.get_submodule(str(n.args[0].target)), FakeQuantise) for n, _ in convs)  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_runtime_that_computes_in_float_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("onnx")
    monkeypatch.setattr("lightseg.export.targets.onnx.operations", lambda data: iter(["Conv"]))
    with pytest.raises(ParityError, match=r"of which onnxruntime computes 0 in eight bits: .* in name only"):
        exported.__wrapped__("onnx", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_that_loses_too_much_is_refused_by_default_and_says_by_how_much() -> None:
    m = made("sinet", "onnx")
    lost = TaskLoss(8, "person IoU", LABELS, float32=96.0, int8=95.25, agreement=99.0)
    with pytest.raises(ParityError, match=r"loses 0.75 points of person IoU .*\(allowed 0.5\); .*--max-drop 0.5"):
        replace(m.quantised, max_drop=None)._check(lost, "file")
    with pytest.raises(ParityError, match="choose a larger --max-drop"):
        replace(m.quantised, max_drop=0.7)._check(lost, "file")
    replace(m.quantised, max_drop=0.8)._check(lost, "file")
    assert allowed(lost) == 0.5 and allowed(replace(lost, against=OWN)) == 1.0


@pytest.mark.slow
def test_where_nothing_is_good_enough_no_file_is_called_int8(tmp_path: Path) -> None:
    require("onnx")
    one = reference("sinet")
    wish = Wish(photographs(), max_drop=-1000.0)
    with pytest.raises(ParityError, match="not one int8 convolution keeps the loss within -1000 points"):
        export(one.model, "onnx", tmp_path, Request("int8", one.size, int8=wish), one)


def chain() -> tuple[fx.GraphModule, dict[str, FakeQuantise], torch.Tensor]:
    b = Builder((1, 3, 8, 8))
    value = b.image
    for _ in range(6):
        value = b.call(b.prelu(3), b.call(b.conv(3, 3), value))
    graph = b.finish(value)
    grids = {n.name: FakeQuantise(0.1, 0) for n in graph.graph.nodes}
    return graph, grids, torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("culprits", [0, 1, 3, 6])
def test_the_search_keeps_as_few_floats_as_the_loss_allows(culprits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, grids, x = chain()
    bad = set(convolutions(graph)[:culprits])
    monkeypatch.setattr(selection, "by_harm", lambda g, *rest: sorted(convolutions(g), key=lambda n: n not in bad))

    def loss(candidate: fx.GraphModule) -> float:
        return sum(isinstance(op, QuantisedConv) and n.name in bad for n, op in op_nodes(candidate))

    search = fewest_floats(graph, grids, Scheme(), [x], loss, 0.5)
    assert set(search.found.floats) == bad and search.whole.loss == culprits
    assert search.found.share == 1 - culprits / 6 and (search.least is None) == (culprits < 6)


def test_harm_is_what_one_layer_alone_does() -> None:
    graph, grids, x = chain()
    worst = convolutions(graph)[3]
    before = next(n for n in graph.graph.nodes if n.name == worst).args[0].name
    grids[before] = FakeQuantise(50.0, 0)
    assert selection.by_harm(graph, grids, Scheme(), [x])[0] == worst


@pytest.mark.parametrize("outputs", [False, True])
def test_layers_named_stay_in_float(outputs: bool) -> None:
    graph, grids, _ = chain()
    names = convolutions(graph)
    changed = quantise(graph, grids, Scheme(outputs=outputs), names[:2])
    kept = {n.name: op for n, op in op_nodes(changed) if n.name in names}
    assert [isinstance(kept[n], QuantisedConv) for n in names] == [False, False, True, True, True, True]
    assert sum(isinstance(op, FakeQuantise) for _, op in op_nodes(changed)) == 4 * (1 + outputs)
    for name in names[:2]:
        assert torch.equal(kept[name].weight, graph.get_submodule(name).weight)  # type: ignore[arg-type]


def test_labels_beside_the_photographs_are_what_counts(tmp_path: Path) -> None:
    images = write_photos(tmp_path / "images", 16)
    write_masks(images)
    from lightseg.export.quantization.calibration import gather

    right = np.zeros((32, 32), np.uint8)
    right[:, 16:] = 1
    judge = Judge(MODELS["sinet"], gather(images).judging, (32, 32), lambda photo: right)
    loss = judge.loss(lambda photo: np.ones((32, 32), np.uint8))
    assert (loss.against, loss.float32, loss.int8, loss.drop, loss.agreement) == (LABELS, 100, 50, 50, 50)


def test_streets_are_judged_by_camvid_labels_where_the_folder_says_so(tmp_path: Path) -> None:
    """Left half road, right half void; float32 is right, the other answer has a truck there, which counts as a car."""
    from lightseg.export.quantization.calibration import gather

    images = write_photos(tmp_path / "images", 16)
    masks = tmp_path / "masks"
    masks.mkdir()
    label = np.full((96, 96), 11, np.uint8)
    label[:48, :48], label[48:, :48] = 3, 8
    for file in images.iterdir():
        Image.fromarray(label).save(masks / file.name)
    right = np.zeros((32, 32), np.uint8)
    right[16:] = 13
    truck = np.where(right == 13, 14, right).astype(np.uint8)
    for source, against, drop in (("elsewhere", OWN, 50.0), ("camvid", LABELS, 0.0)):
        (tmp_path / "manifest.json").write_text(json.dumps({"source": source}))
        judge = Judge(MODELS["c3netv2"], gather(images).judging, (32, 32), lambda photo: right)
        loss = judge.loss(lambda photo: truck)
        assert (loss.against, loss.drop, loss.agreement, loss.unrest) == (against, drop, 50, 50) and loss.float32 == 100
        assert loss.alike == (50 if against == LABELS else None) and allowed(loss) == 1.0
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(BadInput, match=r"manifest\.json is damaged"):
        gather(images)


REFUSED = {
    "no photographs": (["--precision", "int8"], "add --calibration DIR"),
    "photographs of no use": (["--calibration", "."], "--calibration is for int8 alone"),
    "drop of no use": (["--max-drop", "1"], "belong to int8"),
    "coarse": (["--precision", "int8", "--calibration", ".", "--output", "mask_coarse"], "use --output mask"),
    "empty": (["--precision", "int8", "--calibration", "EMPTY"], "holds no photographs"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_the_command_refuses_in_one_line(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require("onnx")
    words, said = REFUSED[what]
    (tmp_path / "EMPTY").mkdir()
    words = [str(tmp_path / w) if w == "EMPTY" else w for w in words]
    size = ["--input-size", "96x64", "--weights", "random", "--out", str(tmp_path / "out")]
    assert main(["--model", "sinet", "--to", "onnx", *size, *words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_target_without_int8_says_what_it_has() -> None:
    """All have it today."""
    bare = replace(TARGETS["onnx"], precisions=("fp32", "fp16"), int8=None)
    with pytest.raises(Unsupported, match="onnx is written in fp32, fp16 only, not int8"):
        Request("int8", int8=Wish(photographs())).check(lively("sinet"), bare)


def test_the_two_say_the_same() -> None:
    assert all((t.int8 is not None) == ("int8" in t.precisions) for t in TARGETS.values())


def test_comparing_with_pytorch_is_refused_where_the_grids_are_not_kept(folder: Path) -> None:
    require("onnx")
    artifact = exported("onnx", folder)
    with pytest.raises(Unsupported, match="golden"):
        verify(artifact.path, torch=True)
    with pytest.raises(Unsupported, match="--bisect"):
        traced(artifact.path, None)


@pytest.mark.parametrize("output", ["mask", pytest.param("probability", marks=pytest.mark.slow)])
def test_heads_and_images_go_with_it(output: str, tmp_path: Path) -> None:
    require("onnx")
    one = plain("sinet")
    wish = Wish(photographs(), max_drop=ANYTHING)
    request = Request("int8", one.size, output=output, preprocess="baked", int8=wish)  # type: ignore[arg-type]
    artifact = export(one.model, "onnx", tmp_path, request, one)
    x = prepared(one.probes["photo"], artifact.feeds)
    answer = TARGETS["onnx"].load(artifact.path, 1)(x)
    assert answer.shape == (1, 1, *one.size)
    assert json.loads(artifact.sidecar.read_text())["quantization"]["float_layers"] == []


def test_bad_input_is_an_error_of_ours() -> None:
    with pytest.raises(BadInput):
        Request("int8").check(lively("sinet"), TARGETS["onnx"])
