"""lightseg-predict as a user meets it: photographs of every kind, a model or an exported file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lightseg.export import predict_cli
from lightseg.images import sample_photo
from tests.export.conftest import Exported
from tests.export.subjects import SLOW_WRITERS
from tests.export.targets_of import targets

RANDOM = ["--model", "sinet", "--weights", "random"]
PRODUCTS = ("mask", "cutout", "overlay")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "face.jpg"
    Image.open(sample_photo()).resize((90, 120)).save(path)
    return path


def _rotated(image: Image.Image, path: Path) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    return path


KINDS: dict[str, Any] = {
    "EXIF-rotated": lambda i, d: _rotated(i, d / "p.jpg"),
    "CMYK": lambda i, d: _saved(i.convert("CMYK"), d / "p.jpg"),
    "alpha": lambda i, d: _saved(i.convert("RGBA"), d / "p.png"),
    "palette": lambda i, d: _saved(i.convert("P"), d / "p.gif"),
    "grey": lambda i, d: _saved(i.convert("L"), d / "p.png"),
    "16 bits": lambda i, d: _saved(Image.fromarray(np.asarray(i.convert("L")).astype(np.uint16) * 257), d / "p.png"),
}


def _saved(image: Image.Image, path: Path) -> Path:
    image.save(path)
    return path


def _run(*argv: object) -> int:
    return predict_cli.main([str(a) for a in argv])


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_every_kind(kind: str, photo: Path, tmp_path: Path) -> None:
    path = KINDS[kind](Image.open(photo), tmp_path)
    assert _run(path, *RANDOM, "--out", tmp_path / "out") == 0
    size = (120, 90) if kind == "EXIF-rotated" else (90, 120)
    modes = {"mask": "L", "cutout": "RGBA", "overlay": "RGB"}
    for product in PRODUCTS:
        with Image.open(tmp_path / "out" / f"p_{product}.png") as written:
            assert (written.size, written.mode) == (size, modes[product])
    mask = np.asarray(Image.open(tmp_path / "out" / "p_mask.png"))
    assert set(np.unique(mask)) <= {0, 255}


@pytest.mark.parametrize("target", targets(SLOW_WRITERS))
def test_an_artifact_answers_as_its_record_says(target: str, exported: Exported, photo: Path, tmp_path: Path) -> None:
    """With preprocessing outside and inside the file the masks are the same."""
    masks = []
    for number, options in enumerate(({}, {"preprocess": "baked"})):
        artifact = exported("sinet", target, **options)
        assert _run(photo, "--artifact", artifact.path, "--out", tmp_path / str(number)) == 0
        masks.append(np.asarray(Image.open(tmp_path / str(number) / "face_mask.png")))
    assert (masks[0] != masks[1]).mean() < 1e-3
    assert 0 < masks[0].mean() < 255, "the test photo must have both classes"


@pytest.mark.parametrize("output", ["mask", "probability"])
def test_an_artifact_without_logits_is_refused(
    output: str, exported: Exported, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = exported("sinet", "onnx", output=output, preprocess="none" if output == "mask" else "baked")
    assert _run(photo, "--artifact", artifact.path) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and output in error and "--output logits" in error


def test_json_is_json_alone_and_names_the_files(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(photo, *RANDOM, "--out", tmp_path, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert [Path(f).name for f in row["files"]] == [f"face_{p}.png" for p in PRODUCTS]
    assert all(Path(f).is_file() for f in row["files"])
    assert sum(row["shares"].values()) == pytest.approx(1, abs=1e-3)


def test_a_bad_photo_does_not_stop_the_others(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "notes.jpg"
    text.write_text("no picture")
    missing = tmp_path / "missing.png"
    assert _run(text, missing, photo, *RANDOM, "--out", tmp_path / "out", "--json", tmp_path / "r.json") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 2 and "notes.jpg" in error and "missing.png" in error
    assert len(json.loads((tmp_path / "r.json").read_text())) == 1
    assert (tmp_path / "out" / "face_mask.png").is_file()


def test_another_input_size_is_what_the_network_gets(photo: Path, tmp_path: Path) -> None:
    """The packaged street weights were trained at a quarter of the published size, and need no download."""
    size = ("--input-size", "128x256")
    assert _run(photo, "--model", "sinet_cityscapes.camvid", *size, "--out", tmp_path) == 0
    assert _run(photo, *RANDOM, "--input-size", "64x64", "--out", tmp_path / "small") == 0
    assert _run(photo, *RANDOM, "--out", tmp_path / "published") == 0
    small, published = (np.asarray(Image.open(tmp_path / d / "face_cutout.png")) for d in ("small", "published"))
    assert (small != published).any()


WRONG: dict[str, tuple[list[str], str]] = {
    "model": (["--model", "sinett"], "did you mean sinet"),
    "size of an artifact": (["--input-size", "64x64", "--artifact", "x.onnx"], "has its own size"),
    "size": (["--input-size", "230x230"], "try --input-size 224x224"),
    "no artifact": (["--artifact", "none.onnx"], "none.onnx"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_words_are_one_line_and_1(what: str, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv, said = WRONG[what]
    assert _run(photo, *argv) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error


@pytest.mark.parametrize("argv", [["--model", "sinet"], ["--weights", "random"]])
def test_a_file_and_a_model_are_too_much(argv: list[str], photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        _run(photo, *argv, "--artifact", "x.onnx")
    assert caught.value.code == 2 and "not both" in capsys.readouterr().err


def test_two_photos_of_one_name_are_refused(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b").mkdir()
    other = _saved(Image.open(photo), tmp_path / "b" / "face.jpg")
    assert _run(photo, other, *RANDOM, "--out", tmp_path / "out") == 1
    assert "face" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_out_that_cannot_be_written(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("in the way")
    assert _run(photo, *RANDOM, "--out", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--out" in error


def test_no_photo_is_usage() -> None:
    with pytest.raises(SystemExit) as ended:
        _run()
    assert ended.value.code == 2
