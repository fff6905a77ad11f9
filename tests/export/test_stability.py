"""Decisions on images: what changed, how sure it was, what is lost; and text that shows it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lightseg.errors import BadInput, ParityError, Unsupported
from lightseg.export import load, read_artifact, verify_cli
from lightseg.export.parity import STABILITY, TOLERANCE
from lightseg.export.runner import torch_runner
from lightseg.export.stability import Stability, images_in, stability
from lightseg.images import read_photo, sample_photo, write_png
from tests.export.conftest import Exported
from tests.export.subjects import lively
from tests.export.test_parity import RECORD

SIZE = (20, 20)
ARTIFACT = replace(RECORD, input_shape=(1, 3, *SIZE), output_shape=(1, 2, *SIZE))
IMAGES = [(f"{i}.png", np.full((*SIZE, 3), i, np.uint8)) for i in range(1, 5)]
Answer = NDArray[Any]


def reference(x: Answer) -> Answer:
    """The right half is a person, more surely the brighter the image and the further to the right."""
    y = np.zeros((1, 2, *SIZE))
    y[0, 1] = np.where(np.arange(20) < 10, -1.0, 1.0) * np.arange(1, 21) * (1 + x.max())
    return y


def compared(change: Any = lambda y: y, **facts: Any) -> Stability:
    return stability(replace(ARTIFACT, **facts), lambda x: change(reference(x).copy()), reference, IMAGES)


def flip(*pixels: tuple[int, int]) -> Any:
    def change(y: Answer) -> Answer:
        for pixel in pixels:
            y[0, 1][pixel] *= -1
        return y

    return change


def test_equal_decisions_pass() -> None:
    found = compared(lambda y: y * 1.5)
    assert found.ok and found.faults == [] and (found.flipped_weight, found.interior, found.boundary) == (0, 0, 0)
    assert [(c.label, c.images, c.iou, c.low, c.high) for c in found.classes] == [
        ("background", 4, 1, 1, 1), ("person", 4, 1, 1, 1),
    ]  # fmt: skip
    found.check("it")
    assert "PASS" in found.diff()


def test_boundary_and_interior_flips_are_told_apart() -> None:
    found = compared(flip((3, 9), (3, 10), (3, 19)))
    assert {(i.interior_flips, i.boundary_flips, i.pixels) for i in found.images} == {(1, 2, 400)}
    assert found.interior == pytest.approx(1 / 400) and found.boundary == pytest.approx(2 / 400)


def test_flips_weigh_as_much_as_the_margin_they_overturn() -> None:
    whole = 20 * sum(range(1, 21))
    unsure, sure = compared(flip((0, 0))), compared(flip((0, 19)))
    assert unsure.flipped_weight == pytest.approx(1 / whole) and sure.flipped_weight == pytest.approx(20 / whole)


def test_iou_of_each_class_with_its_interval() -> None:
    found = compared(flip((0, 19)))
    iou = {c.label: c.iou for c in found.classes}
    assert iou == {"background": pytest.approx(200 / 201), "person": pytest.approx(199 / 200)}


def test_the_interval_is_that_of_the_mean_over_images() -> None:
    """One image of four is lost: the mean is .75, an interval of draws reaches from a half or less to one."""
    worst = iter([True, False, False, False])
    found = compared(lambda y: -y if next(worst) else y)
    person = found.classes[1]
    assert person.iou == 0.75 and person.low <= 0.5 and person.high == 1 and not found.ok
    assert found.classes == replace(found).classes, "drawn from a seed"


@pytest.mark.parametrize("name", ["flipped_weight", "interior"])
def test_each_limit_alone_fails(name: str) -> None:
    found = compared(flip((3, 19)))
    wide = {"flipped_weight": 1.0, "interior": 1.0, "iou": 0.0}
    assert replace(found, limits=wide).ok
    value = getattr(found, name)
    assert replace(found, limits=wide | {name: value}).ok
    assert not replace(found, limits=wide | {name: value * 0.99}).ok
    assert not replace(found, limits=wide | {name: math.nan}).ok


def test_a_class_that_loses_too_much_fails_by_name() -> None:
    found = replace(compared(flip((3, 19))), limits={"flipped_weight": 1.0, "interior": 1.0, "iou": 0.99501})
    with pytest.raises(ParityError, match=r"it decides .* 4 images: IoU of person .*needed 0.99501") as caught:
        found.check("it")
    assert "\n" not in str(caught.value) and "background" not in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_infinity_keep_no_decision(value: float) -> None:
    def spoil(y: Answer) -> Answer:
        y[0, 0, 0, 0] = value
        return y

    found = compared(spoil)
    assert not found.ok and found.flipped_weight == 1 and all(c.iou == 0 for c in found.classes)


def test_the_text_shows_every_figure_and_the_worst_image() -> None:
    bad = iter([False, False, True, False])
    text = compared(lambda y: flip((3, 19))(y) if next(bad) else y).diff()
    assert "FAIL" in text and "IoU person" in text and "3.png: 1 inside, 0 on a boundary" in text
    assert "1.png" not in text


def test_every_precision_of_the_table_says_what_must_hold() -> None:
    assert STABILITY.keys() <= TOLERANCE.keys()
    for row in STABILITY.values():
        assert row.keys() == {"flipped_weight", "interior", "iou"}
        assert 0 < row["flipped_weight"] < 0.01 and 0 < row["interior"] < 0.01 and 0.9 < row["iou"] <= 1


def test_what_has_no_tolerance_is_refused() -> None:
    with pytest.raises(Unsupported, match="no tolerance for decisions of int3"):
        compared(precision="int3")
    with pytest.raises(BadInput, match="no images"):
        stability(ARTIFACT, reference, reference, [])


def _photos(folder: Path) -> Path:
    photo = read_photo(sample_photo())
    folder.mkdir()
    write_png(folder / "a.png", photo[::4, ::4])
    write_png(folder / "b.png", photo[::4, ::-4])
    (folder / "notes.txt").write_text("no image")
    return folder


def test_folders(tmp_path: Path) -> None:
    folder = _photos(tmp_path / "photos")
    assert [name for name, _ in images_in(folder)] == ["a.png", "b.png"]
    assert [name for name, _ in images_in(folder, 1)] == ["a.png"]
    (tmp_path / "empty").mkdir()
    for bad, said in ((tmp_path / "empty", "has no images"), (tmp_path / "none", "no folder")):
        with pytest.raises(BadInput, match=said):
            list(images_in(bad))


def test_on_the_command_line(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = str(exported("sinet", "onnx").path), str(_photos(tmp_path / "photos"))
    monkeypatch.setattr("lightseg.export.verification.model_of", lambda *_: lively("sinet"))
    assert verify_cli.main([path, "--images", folder]) == 0
    assert "decisions on 2 images: margin lost 0.0e+00" in capsys.readouterr().out
    assert verify_cli.main([path, "--images", folder, "--limit", "1", "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["decisions"]["ok"] and [i["image"] for i in result["decisions"]["images"]] == ["a.png"]
    assert verify_cli.main([path, "--images", str(tmp_path)]) == 1
    assert "has no images" in capsys.readouterr().err


def test_other_weights_decide_otherwise_and_the_figures_are_shown(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lively model's record names the random weights it was made from; PyTorch decides with those."""
    folder, report = _photos(tmp_path / "photos"), tmp_path / "report.xml"
    path = str(exported("sinet", "onnx").path)
    assert verify_cli.main([path, "--images", str(folder), "--junit", str(report)]) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "decides otherwise than PyTorch on 2 images" in said.err
    assert "FAIL" in said.out and "IoU person" in said.out and "IoU person" in report.read_text(encoding="utf-8")


def test_a_runner_and_pytorch_on_real_images(exported: Exported, tmp_path: Path) -> None:
    artifact = read_artifact(exported("sinet", "onnx", output="mask").path)
    images = images_in(_photos(tmp_path / "photos"))
    found = stability(artifact, load(artifact.path), torch_runner(lively("sinet"), double=True), images)
    assert found.ok and found.runner["runtime"] == "onnxruntime" and len(found.images) == 2
