"""Packages that are damaged or hold what nobody has taught the interpreter: one clear line each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lightseg.errors import BadInput, Unsupported
from lightseg.export import verify
from tests.export.conftest import Exported
from tests.export.mil_faults import Patient, without_sidecar
from tests.export.subjects import require


@pytest.fixture(autouse=True)
def _installed() -> None:
    require("coreml")


def _manifest(path: Path, change: Any) -> None:
    data = json.loads((path / "Manifest.json").read_text())
    change(data)
    (path / "Manifest.json").write_text(json.dumps(data))


def _outside(manifest: Any) -> None:
    for item in manifest["itemInfoEntries"].values():
        item["path"] = "../../etc/passwd"


DAMAGES: dict[str, Any] = {
    "no manifest": lambda p: (p / "Manifest.json").unlink(),
    "manifest is no JSON": lambda p: (p / "Manifest.json").write_text("{"),
    "manifest is a list": lambda p: (p / "Manifest.json").write_text("[]"),
    "no root": lambda p: _manifest(p, lambda m: m.pop("rootModelIdentifier")),
    "points outside": lambda p: _manifest(p, _outside),
    "no model": lambda p: (p / "Data/com.apple.CoreML/model.mlmodel").unlink(),
    "model cut off": lambda p: _cut(p / "Data/com.apple.CoreML/model.mlmodel", 1000),
    "model empty": lambda p: _cut(p / "Data/com.apple.CoreML/model.mlmodel", 0),
    "no weights": lambda p: (p / "Data/com.apple.CoreML/weights/weight.bin").unlink(),
    "weights cut off": lambda p: _cut(p / "Data/com.apple.CoreML/weights/weight.bin", 500),
    "empty folder": lambda p: _emptied(p),
}


def _emptied(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


def _cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_package_is_one_clear_line(damage: str, exported: Exported, tmp_path: Path) -> None:
    path = without_sidecar(exported("sinet", "coreml"), tmp_path)
    DAMAGES[damage](path)
    with pytest.raises(BadInput) as caught:
        verify(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_file_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "a.mlpackage").write_text("")
    with pytest.raises(BadInput, match="is not a folder, which coreml artifacts are"):
        verify(tmp_path / "a.mlpackage")


def _rename(p: Patient) -> None:
    p.operations("prelu")[0].type = "gelu"


def _unknown_parameter(p: Patient) -> None:
    operation = p.operations("conv")[0]
    operation.inputs["sparsity"].CopyFrom(operation.inputs["groups"])


def _undefined(p: Patient) -> None:
    p.operations("prelu")[0].inputs["x"].arguments[0].name = "nowhere"


def _another_shape(p: Patient) -> None:
    p.operations("prelu")[0].outputs[0].type.tensorType.dimensions[1].constant.size += 1


UNREADABLE: dict[str, tuple[Any, type[Exception], str]] = {
    "operation": (_rename, Unsupported, r"the operation gelu .* is outside what the reference interpreter runs"),
    "parameter": (_unknown_parameter, Unsupported, "parameter sparsity is outside"),
    "name": (_undefined, BadInput, "uses nowhere before it exists"),
    "shape": (_another_shape, BadInput, "declared is"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_the_interpreter_does_not_know_it_refuses(kind: str, exported: Exported, tmp_path: Path) -> None:
    change, error, said = UNREADABLE[kind]
    path = without_sidecar(exported("sinet", "coreml"), tmp_path)
    patient = Patient(path)
    change(patient)
    patient.save()
    with pytest.raises(error, match=said):
        verify(path)


@pytest.mark.parametrize("options", [{}, {"preprocess": "baked", "output": "mask"}], ids=["floats", "images"])
def test_what_a_mac_is_told_is_what_the_program_takes(options: dict[str, str], exported: Exported) -> None:
    """On a Mac the interface is read from the description alone, without PyTorch."""
    from lightseg.export.mil.interpreter import read_program
    from lightseg.export.mil.package import interface

    path = exported("sinet", "coreml", **options).path
    program, told = read_program(path), interface(path)
    assert (told.input, told.shape, told.image, told.output) == (
        program.input,
        program.input_shape,
        program.takes_images,
        program.output,
    )
