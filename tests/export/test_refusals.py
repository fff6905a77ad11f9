"""What cannot be exported is refused in one line before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightseg.errors import BadInput, MissingExtra, UnknownName, Unsupported
from lightseg.export import export
from lightseg.export.parity import TOLERANCE
from lightseg.export.pipeline import Request, matrix
from lightseg.export.targets import TARGETS
from tests.export.subjects import lively
from tests.export.test_pipeline import raising

REFUSALS: dict[str, tuple[Request, str, type[Exception], str]] = {
    "precision": (Request("fp31"), "onnx", UnknownName, "did you mean fp32"),
    "output": (Request(output="masks"), "onnx", UnknownName, "did you mean mask"),  # type: ignore[arg-type]
    "preprocess": (Request(preprocess="bake"), "onnx", UnknownName, "did you mean baked"),
    "target": (Request(), "tflight", UnknownName, "did you mean tflite"),
    "size": (Request(input_size=(100, 224)), "onnx", BadInput, "try --input-size 96x224"),
    "dynamic tflite": (Request(dynamic=True), "tflite", Unsupported, "--to onnx"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_refusals_come_before_any_work(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightseg.export.pipeline.Reference", raising(AssertionError("worked")))
    request, target, error, said = REFUSALS[what]
    with pytest.raises(error, match=said) as caught:
        export(lively("sinet"), target, tmp_path, request)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", TARGETS)
def test_precisions_a_target_does_not_have(target: str) -> None:
    for precision in TOLERANCE:
        if precision not in TARGETS[target].precisions:
            with pytest.raises(Unsupported, match=precision):
                Request(precision).check(lively("sinet"), TARGETS[target])
    assert set(TARGETS[target].precisions) <= set(TOLERANCE)


@pytest.mark.parametrize("target", TARGETS)
def test_missing_extra_names_the_command(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightseg.export.targets.target.find_spec", lambda name: None)
    needed = TARGETS[target].extra
    with pytest.raises(MissingExtra, match=rf"pip install 'lightseg\[{needed}\]'"):
        export(lively("sinet"), target, tmp_path)
    reason = TARGETS[target].why_not_load()
    assert reason is not None and needed in reason
    assert (TARGETS[target].why_not_convert() is None) == (not TARGETS[target].convert_needs)
    assert all(row["run"] for row in matrix())


def test_matrix_lists_every_target() -> None:
    assert [row["target"] for row in matrix()] == list(TARGETS)
