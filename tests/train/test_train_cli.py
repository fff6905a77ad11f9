from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from lightseg.train import recipe as recipes
from lightseg.train.cli import main, parser

FIRST = ["--recipe", "sinet_portrait", "init=random", "revive=false", "compile=false", "height=64", "width=64"]
FIRST += ["batch=4", "epochs=1", "holdout=0"]


def test_help_needs_no_torch() -> None:
    code = "import sys, lightseg.train.cli as c; c.parser().format_help(); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert "sinet_portrait" in capsys.readouterr().out


def test_from_no_data_to_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = str(tmp_path / "demo"), tmp_path / "out"
    assert main(["--generate", "portrait", "--data", data, "--count", "8"]) == 0
    assert main([*FIRST, "--data", data, "--check-data", "--out", str(out), "--json", str(out / "c.json")]) == 0
    assert json.loads((out / "c.json").read_text())["portrait_train"]["pairs"] == 8
    assert (out / "portrait_train.png").is_file()
    assert main([*FIRST, "--data", data, "--out", str(out), "--json", str(out / "r.json")]) == 0
    assert (out / "log.csv").read_text().startswith("epoch,lr,loss,images_per_second,share_data")
    figure = json.loads((out / "r.json").read_text())["figures"]["iou"]
    said = capsys.readouterr().err
    assert f"{figure['value']:.2f} % (measured, portrait_val, 4 images" in said
    assert any(line.startswith("epoch 1 ") and "miou" in line for line in said.splitlines()), "one line, however long"
    weights = str(out / "sinet.safetensors")
    scores = [*FIRST, "--data", data, "--evaluate", f"{weights},random", "--out", str(out / "s"), "--json", "-"]
    capsys.readouterr()
    assert main(scores) == 0
    report = json.loads(capsys.readouterr().out)
    assert report.keys() == {weights, "random", "difference"}
    assert (out / "s" / "per_image.csv").is_file() and (out / "s" / "worst-sinet.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "sinet_portrait"], "--data is missing"),
        (["--recipe", "sinet_portrat", "--data", "."], "did you mean"),
        (["--recipe", "sinet_portrait", "--data", "."], "put images/NAME.jpg"),
        (["--recipe", "sinet_portrait", "--data", ".", "epoch=1"], "did you mean epochs"),
        (["--recipe", "sinet_portrait", "--data", ".", "epochs=.inf"], "recipe key epochs"),
    ],
)
def test_mistakes_end_in_one_line(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, *(["--out", str(tmp_path / "o")] if "--data" in arguments else [])]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("lightseg-train: ") and message in error


def test_every_broken_file_is_named_with_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--generate", "portrait", "--data", str(tmp_path), "--count", "7"]) == 0
    folder = tmp_path / "portrait_train"
    (folder / "images/portrait_00001.jpg").write_bytes(b"")
    cut = folder / "images/portrait_00002.jpg"
    cut.write_bytes(cut.read_bytes()[:5000])  # OpenCV reads it, and makes the rest grey
    (folder / "masks/portrait_00003.png").write_bytes(b"no picture")
    (folder / "masks/portrait_00004.png").unlink()
    assert cv2.imwrite(str(folder / "masks/portrait_00005.png"), np.zeros((10, 10), np.uint8))
    report = tmp_path / "c.json"
    assert main([*FIRST, "--data", str(tmp_path), "--check-data", "--json", str(report)]) == 1
    said = capsys.readouterr().err
    broken = json.loads(report.read_text())["portrait_train"]["broken"]
    wrong = ["00001.jpg is empty", "00002.jpg is damaged", "00003.png is damaged", "00004.png is missing", "10x10"]
    assert len(broken) == len(wrong) and "5 files are broken" in said
    for told, expected in zip(broken, wrong):
        assert expected in told and told in said


def test_files_without_a_partner_are_named_where_no_manifest_decides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--generate", "portrait", "--data", str(tmp_path), "--count", "4"]) == 0
    (tmp_path / "portrait_train/masks/extra.png").write_bytes(b"")
    assert main([*FIRST, "--data", str(tmp_path), "--check-data"]) == 0
    (tmp_path / "portrait_train/manifest.json").unlink()
    (tmp_path / "portrait_train/masks/portrait_00002.png").unlink()
    assert main([*FIRST, "--data", str(tmp_path), "--check-data"]) == 1
    said = capsys.readouterr().err
    assert "extra.png has no partner" in said and "portrait_00002.jpg has no partner" in said


def test_an_exported_file_is_sent_to_the_command_that_scores_it(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.onnx").write_bytes(b"")
    (tmp_path / "a.onnx.json").write_text("{}")
    assert main([*FIRST, "--data", str(demo), "--evaluate", str(tmp_path / "a.onnx")]) == 1
    said = capsys.readouterr().err
    assert f"lightseg-evaluate {tmp_path / 'a.onnx'} --data {demo / 'portrait_val'} --layout pairs" in said


def test_a_submission_needs_a_network_for_streets(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FIRST, "--data", str(demo), "--submission", "nowhere", "--evaluate", "random"]) == 1
    assert "sinet knows no street classes" in capsys.readouterr().err and not Path("nowhere").exists()


def test_overrides_may_stand_between_options(demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["--recipe", "sinet_portrait", "epochs=1", "--data", str(demo), "height=64", "--check-data", "lr=x"]
    assert main(call) == 1
    assert "recipe key lr: 'x'" in capsys.readouterr().err
    assert main([*call[:-1], "train_folder=portrait_val", "--out", str(tmp_path), "val_folder=portrait_val"]) == 0
    assert (tmp_path / "portrait_val.png").is_file()


@pytest.mark.parametrize("call", [["--generate", "portrait", "--data"], [*FIRST, "--data", "DEMO", "--out"]])
def test_a_folder_that_cannot_be_written_is_named(
    call: list[str], demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "f").write_text("a file")
    assert main([*(str(demo) if word == "DEMO" else word for word in call), str(tmp_path / "f")]) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert (
        said.startswith("lightseg-train: cannot write") and str(tmp_path / "f") in said and "choose another --" in said
    )


def test_generated_pairs_never_replace_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["--generate", "portrait", "--data", str(tmp_path), "--count", "1"]
    assert main(call) == 0 and main(call) == 0, "generated pairs are replaced by generated pairs"
    manifest = tmp_path / "portrait_train/manifest.json"
    for content in ('{"items": []}', "no JSON", None):
        manifest.unlink() if content is None else manifest.write_text(content)
        assert main(call) == 1
        assert "portrait_train holds data that were not generated" in capsys.readouterr().err
        assert content is None or manifest.read_text() == content
    manifest.parent.rename(tmp_path / "portrait_val" / "more")
    (tmp_path / "portrait_val" / "manifest.json").unlink()
    assert main(call) == 1 and not manifest.parent.exists(), "refused before the other folder is written"


def test_the_commands_of_the_guide_parse() -> None:
    guide = (Path(__file__).parents[2] / "docs/training.md").read_text(encoding="utf-8")
    commands = [line for line in guide.splitlines() if line.startswith(("lightseg-train ", "torchrun "))]
    lines = [shlex.split(line, comments=True) for line in commands]
    found = [words[1:] for words in lines if words[:1] == ["lightseg-train"]]
    assert len(found) > 3
    for words in found:
        parser().parse_args(words)
    shared_out = [words for words in lines if words[:1] == ["torchrun"]]
    assert shared_out
    for words in shared_out:
        asked = parser().parse_args(words[words.index("lightseg.train.cli") + 1 :])
        count = int(words[words.index("--nproc-per-node") + 1])
        assert recipes.load(asked.recipe, asked.overrides).batch % count == 0, words
