from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lightseg.train.cli import main

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
    assert main([*FIRST, "--data", data, "--out", str(out)]) == 0
    assert (out / "log.csv").read_text().startswith("epoch,lr,loss,images_per_second,share_data")
    weights = str(out / "sinet.safetensors")
    scores = [*FIRST, "--data", data, "--evaluate", f"{weights},random", "--out", str(out / "s"), "--json", "-"]
    capsys.readouterr()
    assert main(scores) == 0
    text = capsys.readouterr().out
    report = json.loads(text[text.index("{") :])
    assert report.keys() == {weights, "random", "difference"}
    assert (out / "s" / "per_image.csv").is_file() and (out / "s" / "worst-sinet.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "sinet_portrait"], "--data is missing"),
        (["--recipe", "sinet_portrat", "--data", "."], "did you mean"),
        (["--recipe", "sinet_portrait", "--data", "."], "put images/NAME.jpg"),
        (["--recipe", "sinet_portrait", "--data", ".", "epoch=1"], "did you mean epochs"),
        (["--recipe", "sinet_portrait", "--data", ".", "height=100"], ""),
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


def test_broken_files_are_named_and_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--generate", "portrait", "--data", str(tmp_path), "--count", "4"]) == 0
    (tmp_path / "portrait_train/images/portrait_00002.jpg").write_bytes(b"")
    assert main([*FIRST, "--data", str(tmp_path), "--check-data"]) == 1
    assert "portrait_00002.jpg" in capsys.readouterr().err
