"""Core ML end to end: the saved package proves itself, a damaged one does not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightseg.errors import BadInput, ParityError, Unsupported
from lightseg.export import export, verify
from lightseg.export.answers import prepared
from lightseg.export.mil.interpreter import read_program
from lightseg.export.parity import measure
from lightseg.export.record import read_artifact
from lightseg.export.targets.coreml import COREML
from lightseg.export.verification import load
from lightseg.export.writers.mil import write_mil
from lightseg.zoo import MODELS
from tests.export.conftest import Exported
from tests.export.mil_faults import (
    FAULTS,
    Patient,
    lose_a_bias,
    lose_the_second_division,
    swap_red_and_blue,
    without_sidecar,
)
from tests.export.subjects import double, images, lively, reference, relative, require

PRECISIONS = [p for p in COREML.precisions if p != "int8"]  # int8 has tests of its own


@pytest.fixture(autouse=True)
def _installed() -> None:
    require("coreml")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", MODELS)
def test_every_model_passes(name: str, precision: str, exported: Exported) -> None:
    artifact = exported(name, "coreml", precision=precision)
    assert artifact.parity is not None and artifact.parity["ok"]
    assert artifact.parity["runner"]["runtime"] == "reference interpreter"
    assert read_program(artifact.path).is_float16 == (precision == "fp16")
    assert artifact.changes.keys() >= {"equalise"}


@pytest.mark.parametrize("name", MODELS)
def test_in_float64_only_the_weights_are_rounded(name: str, exported: Exported) -> None:
    """The same file with exact arithmetic: what is left is the rounding of the stored weights to float32."""
    x = images(name)
    got = read_program(exported(name, "coreml").path).run(x, torch.float64, rounding=False)
    assert relative(got, double(name)(x).detach()) < 2e-5


@pytest.mark.parametrize(("output", "precision"), [("mask", "fp32"), ("probability", "fp16")])
@pytest.mark.parametrize("name", ["sinet", "extremec3net", "c3net"])
def test_heads_and_preprocessing_inside(name: str, output: str, precision: str, exported: Exported) -> None:
    artifact = exported(name, "coreml", output=output, preprocess="baked", precision=precision)
    assert artifact.layout == {"input": "image RGB", "output": f"NCHW {'int32' if output == 'mask' else 'float32'}"}
    pixels = prepared(reference(name).probes["photo"], artifact.feeds)
    assert load(artifact.path)(pixels).shape == artifact.output_shape


@pytest.mark.parametrize(("asked", "precision"), [("iOS16", "fp32"), ("iOS17", "fp16"), ("iOS18", "fp32")])
def test_written_for_later_systems_only(asked: str, precision: str, exported: Exported) -> None:
    artifact = exported("sinet", "coreml", precision=precision, capabilities=(asked,))
    assert artifact.facts == {"deployment_target": asked} and asked in artifact.path.name
    assert artifact.parity is not None and artifact.parity["ok"]
    assert exported("sinet", "coreml", precision=precision).facts == {"deployment_target": "iOS15"}


def test_the_input_is_an_image_where_preprocessing_is_inside(exported: Exported) -> None:
    model = Patient(exported("sinet", "coreml", output="mask", preprocess="baked").path).package.model
    (given,), (result,) = model.description.input, model.description.output
    height, width = reference("sinet").size
    assert (given.name, given.type.imageType.width, given.type.imageType.height) == ("image", width, height)
    assert given.type.imageType.colorSpace == given.type.imageType.RGB
    assert result.name == "mask" and result.type.multiArrayType.dataType == result.type.multiArrayType.INT32
    assert model.specificationVersion == 6


def test_two_conversions_give_the_same_bytes(exported: Exported, tmp_path: Path) -> None:
    """A second conversion in one process is also the test of passes that wear out."""
    first = exported("sinet", "coreml", precision="fp16")
    again = export(lively("sinet"), "coreml", tmp_path, reference=reference("sinet"), precision="fp16",
                   input_size=reference("sinet").size)  # fmt: skip
    assert again.sha256 == first.sha256


def test_float16_stores_float16(exported: Exported) -> None:
    wide, narrow = (exported("sinet", "coreml", precision=p).path for p in PRECISIONS)
    sizes = [(p / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size for p in (wide, narrow)]
    assert sizes[1] < 0.6 * sizes[0]


def test_the_record_travels_inside(exported: Exported, tmp_path: Path) -> None:
    artifact = exported("sinet", "coreml")
    inside = read_artifact(without_sidecar(artifact, tmp_path))
    assert inside.weights == artifact.weights and inside.tolerance == artifact.tolerance
    assert [g.probe for g in inside.golden] == ["photo", "scene"]
    assert all(g["flips"] == 0 for g in verify(inside.path).goldens)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("name", "precision"), [("sinet", "fp32"), ("sinet", "fp16")])
def test_a_seeded_defect_is_caught(name: str, precision: str, fault: str, exported: Exported, tmp_path: Path) -> None:
    """By the goldens that travel inside, without PyTorch's answers, and by the comparison with them."""
    path = without_sidecar(exported(name, "coreml", precision=precision), tmp_path)
    patient = Patient(path)
    FAULTS[fault](patient)
    patient.save()
    artifact = read_artifact(path)
    assert not measure(artifact, load(path), reference(name)).ok
    with pytest.raises(ParityError, match="does not repeat its golden output"):
        verify(path)


@pytest.mark.parametrize("fault", [lose_a_bias, swap_red_and_blue, lose_the_second_division])
def test_a_defect_of_the_preprocessing_is_caught(
    fault: Callable[[Patient], None], exported: Exported, tmp_path: Path
) -> None:
    """The first bias of such a file is the mean."""
    path = without_sidecar(
        exported("sinet", "coreml", output="probability", preprocess="baked", precision="fp16"), tmp_path
    )
    patient = Patient(path)
    fault(patient)
    patient.save()
    with pytest.raises(ParityError, match="does not repeat its golden output"):
        verify(path)


def test_images_in_another_order_are_refused(exported: Exported, tmp_path: Path) -> None:
    path = without_sidecar(exported("sinet", "coreml", output="mask", preprocess="baked"), tmp_path)
    patient = Patient(path)
    image = patient.package.model.description.input[0].type.imageType
    image.colorSpace = image.BGR
    patient.save()
    with pytest.raises(Unsupported, match="takes images that are not RGB"):
        verify(path)


def test_float16_that_overflows_fails_with_the_reason(exported: Exported, tmp_path: Path) -> None:
    path = without_sidecar(exported("sinet", "coreml", precision="fp16"), tmp_path)
    patient = Patient(path)
    operation, _ = next(patient.weights())
    patient.edit(operation, "weight", lambda w: np.full_like(w, 65504))
    patient.save()
    with pytest.raises(ParityError, match="returns NaN or infinity: values leave the range of their type"):
        measure(read_artifact(path), load(path), reference("sinet")).check("file")
    with pytest.raises(ParityError):
        verify(path)


def test_the_sidecar_knows_its_folder(exported: Exported, tmp_path: Path) -> None:
    artifact = exported("sinet", "coreml")
    path = without_sidecar(artifact, tmp_path)
    shutil.copy(artifact.sidecar, tmp_path)
    assert verify(path).goldens
    (path / "note.txt").write_text("added later")
    with pytest.raises(BadInput, match="sha256 differs"):
        verify(path)


def test_a_failed_export_is_kept_under_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, size = lively("sinet"), reference("sinet").size
    good = export(model, "coreml", tmp_path, reference=reference("sinet"), input_size=size)
    row = {"relative": 0.0, "mean": 0.0, "agreement": 1.0}
    monkeypatch.setattr("lightseg.export.pipeline.TOLERANCE", {"fp32": row})
    monkeypatch.setattr("lightseg.export.parity.ROUNDING", 0.0)
    with pytest.raises(ParityError, match=r"kept as .*\.mlpackage\.failed"):
        export(model, "coreml", tmp_path, reference=reference("sinet"), input_size=size)
    failed = tmp_path / (good.path.name + ".failed")
    assert failed.is_dir() and verify(good.path).goldens
    assert {p.name for p in tmp_path.iterdir()} == {
        good.path.name, good.sidecar.name, failed.name, failed.name + ".json"
    }  # fmt: skip


def test_another_size_is_refused(exported: Exported) -> None:
    with pytest.raises(BadInput, match="takes 1x3x96x64, not 1x3x64x96; export another size"):
        load(exported("sinet", "coreml").path)(np.zeros((1, 3, 64, 96), np.float32))


def test_a_refusal_names_the_weight_that_float16_cannot_hold(tmp_path: Path) -> None:
    graph = reference("sinet").graph
    huge = replace_first_weight(graph, 1e6)
    with pytest.raises(Unsupported, match=r"has a weight of 1e\+06, beyond the 65504.*--precision fp32"):
        write_mil(huge, (1, 3, *reference("sinet").size), "logits", tmp_path / "a.mlpackage", half=True)


def replace_first_weight(graph: Any, value: float) -> Any:
    import copy

    from lightseg.export.graph import ops

    changed = copy.deepcopy(graph)
    next(m for m in changed.modules() if isinstance(m, ops.Conv)).weight[0, 0, 0, 0] = value
    return changed


def test_running_needs_the_schema_and_not_the_converter(exported: Exported) -> None:
    """The converter takes seconds to import and brings its own front ends."""
    code = (
        "import sys; from lightseg.export import verify; verify(sys.argv[1]); "
        "print([m for m in sys.modules if m == 'coremltools' or m.startswith('coremltools.')])"
    )
    path = str(exported("sinet", "coreml").path)
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
