"""Layer by layer: the runtimes' own profiles where there are any, else counted work, said to be so."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightseg.benchmarks.layers import from_events, layers_of
from lightseg.benchmarks.samples import pictures, samples_of
from lightseg.benchmarks.selection import artifact_subjects
from lightseg.benchmarks.timing.subject import Subject
from lightseg.errors import Unsupported


def test_a_trace_is_cut_into_runs_and_the_first_is_left_out() -> None:
    def node(name: str, begin: int, took: int) -> dict[str, object]:
        return {"cat": "Node", "name": f"{name}_kernel_time", "ts": begin, "dur": took, "args": {"op_name": "Conv"}}

    runs = [{"name": "model_run", "cat": "Session", "ts": begin, "dur": 9} for begin in (10, 20, 30)]
    nodes = [node("a", 11, 5000), node("a", 21, 2000), node("b", 22, 500), node("b", 23, 500), node("a", 31, 1000)]
    assert from_events([*nodes, *runs, {"name": "meta"}]) == [
        {("a", "Conv"): 2.0, ("b", "Conv"): 1.0},
        {("a", "Conv"): 1.0},
    ]


def test_layers_of_files(small: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    subjects = artifact_subjects(list(small.values()))
    found = layers_of(subjects, [0], None, lambda line: None)
    onnx, tflite = (found[path.name] for path in small.values())
    assert onnx["unit"] == "ms" and onnx["source"].startswith("ONNX Runtime's profiler")
    assert {layer["kind"] for layer in onnx["layers"]} >= {"conv", "resize"}
    assert not [layer for layer in onnx["layers"] if layer["kind"] == "other"]
    assert (tflite["unit"], tflite["source"]) == ("MACs", "counted")


def test_masks_travel_as_pictures(small: dict[str, Path]) -> None:
    _, file = artifact_subjects([small["tflite"]])
    made = pictures(file, None)
    assert set(made) == {"photo", "mask", "cutout", "overlay"}
    assert all(picture.startswith("data:image/jpeg;base64,/9j/") for picture in made.values())


def test_a_row_without_a_mask_says_why() -> None:
    subject = Subject("another", "tflite (peer)", (1, 3, 8, 8), None, path="x.tflite", output="")
    with pytest.raises(Unsupported, match="meaning is not known"):
        pictures(subject, None)
    made = samples_of([subject], None, lambda line: None)
    assert made["rows"][0]["reason"].startswith("the output of another")
