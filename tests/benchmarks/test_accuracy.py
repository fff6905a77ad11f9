"""lightseg-evaluate: an artifact scores what its network scores."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import pytest

from lightseg import create_model
from lightseg.benchmarks.accuracy import candidate
from lightseg.benchmarks.evaluate_cli import main
from lightseg.errors import Unsupported
from lightseg.export import export
from lightseg.export.targets import TARGETS
from lightseg.train.evaluate import Task, evaluate
from lightseg.train.generate import write
from lightseg.train.layouts import find_pairs
from lightseg.weights import save_weights


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    write("portrait", folder, 3)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = create_model("sinet", "random", seed=3)
    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    save_weights(path, model.spec, model.weights, model.net.state_dict())
    return path


def test_an_artifact_scores_what_its_network_scores(
    data: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = create_model("sinet", weights)
    target = next(t for t in TARGETS.values() if not (t.why_not_convert() or t.why_not_load()))
    artifact = export(model, target.name, tmp_path, input_size=(64, 64))
    names = [f"sinet={weights}", str(artifact.path)]
    assert main([*names, "--data", str(data), "--input-size", "64x64", "--out", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    torch_score, file_score = (s["per_image_person_iou"] for s in told["scores"].values())
    (repeated,) = told["agreement"].values()
    assert repeated["same_class"] > 99.9 and repeated["mean_iou"] > 99
    assert file_score == pytest.approx(torch_score, abs=0.01)
    assert 0 <= torch_score < 100
    assert (tmp_path / "per_image.csv").read_text().count("\n") == 4, "a header and a row for each of three images"
    sheet = cv2.imread(str(tmp_path / f"worst-{artifact.path.name}.png"))
    assert sheet is not None and sheet.shape[0] > 64, "the file's worst images, whatever wrote it"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sined"], "did you mean sinet"),
        (["nowhere.onnx"], "no artifact nowhere.onnx"),
        (["sinet=nowhere.safetensors"], "no weights file nowhere.safetensors"),
        (["mine.safetensors"], "say of which network, for instance sinet=mine.safetensors"),
        (["sinet", "--layout", "camvid"], "layout camvid has streets, and the network is for portraits"),
        (["sinet_cityscapes.camvid"], "layout pairs has portraits, and the network is for streets"),
    ],
)
def test_bad_candidates_are_told_in_one_line(
    arguments: list[str], said: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--data", str(data)]) == 1
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


def test_files_of_the_same_name_keep_apart(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = next(t for t in TARGETS.values() if not (t.why_not_convert() or t.why_not_load()))
    paths = []
    for seed in range(2):
        model = create_model("sinet", "random", seed=seed)
        paths.append(str(export(model, target.name, tmp_path / str(seed), input_size=(64, 64)).path))
    assert Path(paths[0]).name == Path(paths[1]).name
    assert main([*paths, "--data", str(data), "--out", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told["scores"]) == paths and len(told["differences"]) == 1
    assert len(list(tmp_path.glob("worst-*.png"))) == 2
    header = (tmp_path / "per_image.csv").read_text().splitlines()[0]
    assert header.count("_iou") == 2


def test_noise_says_how_far_a_network_agrees_with_itself(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sinet.lightseg", "--data", str(data), "--noise", "3"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[1].startswith("sinet.lightseg with noise of 3: images 3")
    shown = re.fullmatch(
        r"sinet.lightseg with noise of 3 repeats the masks of sinet.lightseg: ([\d.]+) % of the pixels, mean IoU (.+)",
        told[-1],
    )
    assert shown and 90 < float(shown[1]) < 100 and 90 < float(shown[2]) < 100


def test_noise_beyond_sense_is_refused(weights: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"sinet={weights}", "--data", str(data), "--noise", "-1"]) == 1
    assert "--noise -1: give 1 to 64 grey levels" in capsys.readouterr().err


def test_a_folder_without_pairs_is_refused(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"sinet={weights}", "--data", str(tmp_path)]) == 1
    assert "no images with masks in" in capsys.readouterr().err


def test_an_artifact_that_returns_masks_scores_as_its_logits_do(
    data: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half a mask too: its pixels are repeated."""
    target = next(t for t in TARGETS.values() if not (t.why_not_convert() or t.why_not_load()))
    model, scores = create_model("sinet", weights), {}
    for output in ("logits", "mask", "mask_coarse"):
        made = export(model, target.name, tmp_path, input_size=(64, 64), output=output)
        assert main([str(made.path), "--data", str(data)]) == 0
        scores[output] = capsys.readouterr().out.partition(": ")[2]
    assert scores["logits"] == scores["mask"]
    assert scores["mask_coarse"]


def test_an_artifact_that_returns_probabilities_cannot_be_scored(
    data: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = next(t for t in TARGETS.values() if not (t.why_not_convert() or t.why_not_load()))
    made = export(create_model("sinet", weights), target.name, tmp_path, input_size=(64, 64), output="probability")
    assert main([str(made.path), "--data", str(data)]) == 1
    assert "returns a probability" in capsys.readouterr().err


def test_a_peer_is_scored_like_our_own(shared: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    one = candidate(str(shared / "peers" / "selfie_segmentation_landscape.tflite"))
    assert (Path(one.name).name, one.size) == ("selfie_segmentation_landscape.tflite", (144, 256))
    folder = shared / "data" / "portrait_val"
    pairs = find_pairs("pairs", folder.parent, folder.name)[:4]
    result = evaluate(one.predict, Task(pairs, "pairs", one.size, one.preprocess, one.labels))
    assert result.iou.min() > 80, "the probability is read as a mask of the person"
    with pytest.raises(Unsupported, match="144x256 only"):
        candidate(str(shared / "peers" / "selfie_segmentation_landscape.tflite"), (224, 224))


def test_what_an_unknown_file_answers_is_not_guessed(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    path = tmp_path / "other.tflite"
    path.write_bytes((shared / "peers" / "selfie_segmentation.tflite").read_bytes())
    with pytest.raises(Unsupported, match="is not known"):
        candidate(str(path))
