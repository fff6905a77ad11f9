"""From options to rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lightseg.benchmarks import cli
from lightseg.benchmarks.timing.subject import Subject
from lightseg.benchmarks.timing.ways import Ways, expanded, ways
from lightseg.errors import BadInput, UnknownName

MODEL = Subject("a", "PyTorch eager", (1, 3, 64, 64), None, model="a", any_batch=True)
FILE = Subject("a", "onnx", (1, 3, 64, 64), {}, path="/x/a.onnx", precision="fp32")
ENGINE = replace(FILE, runtime="tensorrt_rtx", path="/x/a.tensorrt_rtx", precision="int8")


def options(*argv: str) -> Ways:
    return ways(cli.parser().parse_args(["--model", "a", *argv]))


def said(subjects: list[Subject], how: Ways) -> tuple[list[str], list[str]]:
    lines: list[str] = []
    rows = expanded(subjects, how, lines.append)
    return [f"{row.shape[0]} {row.precision} {row.runtime}" for row in rows], lines


def test_on_a_processor_nothing_changes_unasked() -> None:
    peer = replace(FILE, path="/x/p.tflite", precision="", shape=(4, 3, 8, 8))
    assert expanded([MODEL, FILE, peer], options(), print) == [MODEL, FILE, peer]


def test_on_a_gpu_every_way_is_a_row() -> None:
    rows, _ = said([MODEL], options("--device", "cuda"))
    assert rows == [
        "1 fp32 PyTorch eager",
        "1 fp32 PyTorch eager + CUDA graph",
        "1 fp32 torch.compile",
        "1 fp32 torch.compile + CUDA graph",
    ]
    rows, _ = said([MODEL], options("--device", "cuda", "--batch", "8,1", "--precision", "fp32,tf32,fp16,int8"))
    assert len(rows) == len(set(rows)) == 4 * 2 * 3
    assert "8 tf32 torch.compile + CUDA graph" in rows


def test_a_row_says_how_it_runs() -> None:
    how = options("--device", "cuda", "--torch", "compile", "--graphs", "on", "--precision", "fp16")
    (row,) = expanded([MODEL], how, print)
    assert (row.compiled, row.graph, row.precision, row.device) == (True, True, "fp16", "cuda")
    assert Subject.from_dict(row.to_dict()) == row


def test_compiled_rows_on_a_processor() -> None:
    rows, _ = said([MODEL], options("--torch", "eager,compile", "--batch", "1,2", "--precision", "fp16"))
    assert rows == ["1 fp32 PyTorch eager", "1 fp32 torch.compile", "2 fp32 PyTorch eager", "2 fp32 torch.compile"]


@pytest.mark.parametrize(
    ("precision", "rows"),
    [
        ("fp32", ["1 fp32 onnx"]),
        ("tf32", ["1 tf32 onnx"]),
        ("fp32,tf32", ["1 fp32 onnx", "1 tf32 onnx"]),
        ("fp16", ["1 fp32 onnx"]),
    ],
)
def test_tf32_is_a_way_to_run_a_float32_file(precision: str, rows: list[str]) -> None:
    found, _ = said([FILE], options("--device", "cuda", "--graphs", "off", "--precision", precision))
    assert found == rows


def test_engines_keep_their_precision() -> None:
    rows, _ = said([ENGINE], options("--device", "cuda", "--precision", "fp32,tf32"))
    assert rows == ["1 int8 tensorrt_rtx", "1 int8 tensorrt_rtx + CUDA graph"]


def test_batches_a_file_does_not_take_are_announced() -> None:
    how = options("--device", "cuda", "--batch", "1,8,32", "--graphs", "off")
    assert said([FILE], how) == (["1 fp32 onnx"], ["a, onnx takes batches of 1: no rows for 8, 32"])
    rows, lines = said([replace(FILE, any_batch=True)], how)
    assert rows == ["1 fp32 onnx", "8 fp32 onnx", "32 fp32 onnx"] and not lines


def test_files_that_nothing_runs_on_a_gpu_are_refused() -> None:
    with pytest.raises(BadInput, match=r"--device cuda runs \.onnx, \.tensorrt, \.tensorrt_rtx files"):
        said([replace(FILE, path="/x/a.tflite")], options("--device", "cuda"))


def test_precisions_have_names() -> None:
    with pytest.raises(UnknownName, match="fp16"):
        options("--precision", "fp32,fp15")
    assert options("--device", "cuda", "--precision", "tf32,fp32,fp16").written == ("fp32", "fp16")


@pytest.mark.parametrize(
    "argv",
    [
        ["--graphs", "on"],
        ["--precision", "tf32"],
        ["--device", "browser", "--batch", "2"],
        ["--device", "cuda", "--peers", "selfie"],
        ["--batch", "0"],
        ["--batch", "x"],
        ["--torch", "jit"],
        ["--graphs", "maybe"],
    ],
)
def test_options_of_other_devices_exit_2(argv: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--model", "sinet", *argv])
    assert caught.value.code == 2 and "usage:" in capsys.readouterr().err
