"""How emulated rows are shown: never with a time."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from lightseg.benchmarks import cli
from lightseg.benchmarks.arm64.emulate import Emulated, emulate_all
from lightseg.benchmarks.arm64.root import Root
from lightseg.benchmarks.arm64.table import emulated_table, notes
from lightseg.benchmarks.counting import mode as counting_mode
from lightseg.benchmarks.counting.instructions import Instructions
from lightseg.benchmarks.timing.process import Failed

Capture = pytest.CaptureFixture[str]


ROW = Emulated(
    "a.tflite",
    Instructions((45_600_000, 45_700_000), "qemu-user 7.2, cortex-a76", {"fma": 20_000_000, "memory": 1_000_000}),
    64_000_000,
    ({"probe": "photo", "max_error": 1e-5, "relative_error": 3e-6, "flips": 1, "pixels": 50176},),
    None,
    {"runtime": "ai-edge-litert", "version": "2.3.0"},
)


def shown(rows: list[Emulated]) -> str:
    out = StringIO()
    console = Console(file=out, width=200)
    console.print(emulated_table(rows))
    for line in notes(rows):
        console.print(line)
    return out.getvalue()


def test_no_time_is_ever_printed() -> None:
    foreign = replace(ROW, name="peer.tflite", parity=())
    text = shown([ROW, replace(ROW, disagrees="it is off"), foreign])
    for expected in ("45.6", "3.0e-06", "1 of 50,176", "not compared", "it is off", "no milliseconds"):
        assert expected in text
    assert " ms" not in text and "second" not in text.replace("milliseconds", "")
    assert not [key for key in ROW.to_dict() if "ms" in key or "time" in key.replace("runtime", "")]


def test_float16_multiply_adds_count_as_multiply_adds() -> None:
    mix = {"fma": 1_600_000, "fma16": 20_000_000, "memory": 1_000_000}
    counted = replace(ROW.instructions, mix=mix)
    half = replace(ROW, half=True, instructions=counted, details={**ROW.details, "arithmetic": "float16"})
    text = shown([replace(half, disagrees="it is off")])
    assert "47%" in text and "float16" in text
    assert "a.tflite in float16 arithmetic: it is off" in text


def test_one_that_dies_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, root: Root, capsys: Capture, tmp_path: Path
) -> None:
    def one(root: Root, path: Path, half: bool) -> Emulated:
        if path.name == "b.onnx":
            raise Failed("the measured process was killed by SIGSEGV")
        return replace(ROW, disagrees="off" if path.name == "c.onnx" else None)

    monkeypatch.setattr(emulate_all, "__defaults__", (one,))
    monkeypatch.setattr(counting_mode, "ready_root", lambda: root)
    result = tmp_path / "r.json"
    assert cli.main(["--device", "arm64", "a.onnx", "b.onnx", "c.onnx", "--json", str(result)]) == 1
    out, error = capsys.readouterr()
    assert out.count("a.tflite") >= 2
    assert error.splitlines()[-2:] == [
        "lightseg-bench: b.onnx failed: the measured process was killed by SIGSEGV",
        "lightseg-bench: a.tflite does not equal PyTorch on this processor",
    ]
    assert len(json.loads(result.read_text())["rows"]) == 2
    assert cli.main(["--device", "arm64", "a.onnx"]) == 0
