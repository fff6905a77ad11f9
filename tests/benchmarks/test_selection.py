from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lightseg.benchmarks.selection import eager_subject, export_all, grouped
from lightseg.benchmarks.timing.subject import Subject
from lightseg.benchmarks.timing.ways import EAGER
from lightseg.errors import BadInput, UnknownName
from lightseg.export.pipeline import Request

EAGER_ROW = Subject("a", EAGER, (1, 3, 64, 64), None, model="a")
FILE = Subject("a", "tflite", (1, 3, 64, 64), None, path="a.tflite")


def test_subjects_survive_the_pipe() -> None:
    assert Subject.from_dict(EAGER_ROW.to_dict()) == EAGER_ROW


def test_eager_comes_first_and_once_for_each_model_and_size() -> None:
    again = replace(EAGER_ROW, weights="clova")
    other_size = replace(EAGER_ROW, shape=(1, 3, 32, 32))
    other = replace(EAGER_ROW, label="b")
    second = replace(FILE, runtime="onnx", path="a.onnx")
    assert grouped([other], [FILE, EAGER_ROW, second, again, other_size]) == [
        other,
        EAGER_ROW,
        FILE,
        second,
        other_size,
    ]


def test_random_weights_are_labelled() -> None:
    subject = eager_subject("sinet", "random", (64, 96))
    assert (subject.label, subject.shape) == ("sinet-random", (1, 3, 64, 96))
    assert "architecture only" in subject.note


@pytest.mark.parametrize(
    ("name", "size", "error"),
    [("sinett", None, UnknownName), ("sinet.nobody", None, UnknownName), ("sinet", (33, 64), BadInput)],
)
def test_refusals(name: str, size: tuple[int, int] | None, error: type[Exception]) -> None:
    weights = None if "." in name else "random"
    with pytest.raises(error):
        eager_subject(name, weights, size)


def test_a_misspelt_target_is_refused_before_anything_is_exported(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean tflite"):
        export_all(["sinet"], "random", "onnx,tflit", [Request()], tmp_path, lambda line: None)
    assert list(tmp_path.iterdir()) == []
