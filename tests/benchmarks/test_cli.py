"""The command as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lightseg.benchmarks import cli
from lightseg.benchmarks.results import report
from lightseg.benchmarks.timing import mode as timing_mode
from lightseg.benchmarks.timing.environment import environment
from lightseg.benchmarks.timing.latency import FULL, QUICK, Protocol
from lightseg.benchmarks.timing.measure import Row
from lightseg.benchmarks.timing.process import Failed
from lightseg.benchmarks.timing.subject import Subject
from lightseg.errors import BadInput

Capture = pytest.CaptureFixture[str]
TINY = ["--weights", "random", "--input-size", "32x64"]


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom lightseg.benchmarks.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'numpy', 'rich', 'onnx', 'ai_edge_litert'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "examples:" in done.stdout


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--to", "onnx", "a.onnx"],
        ["--threads", "0"],
        ["--seconds", "-1"],
        ["--cores", "x"],
        ["--device", "tpu"],
        ["--threads", "1,x"],
        ["a.onnx", "--resume"],
        ["a.onnx", "--against", "b.onnx", "--threads", "1,2"],
        ["a.onnx", "--against", "b.onnx", "--resume", "--json", "r.json"],
        ["a.onnx", "--out", "here"],
        ["a.onnx", "--input-size", "64x64"],
        ["--model", "sinet", "--precision", "fp16"],
        ["--model", "sinet", "--to", "onnx", "--precision", "int8"],
        ["a.onnx", "--chromium", "x"],
        ["a.onnx", "--benchmark-model", "x"],
        ["--profile", "a.onnx", "--device", "arm64"],
    ],
)
def test_usage_errors_exit_2(argv: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--model", "sinett"], "did you mean sinet"),
        (["absent.tflite"], "no artifact absent.tflite"),
        (["absent.bin"], "no artifact absent.bin"),
        (["--model", "sinet", "--to", "onnxx", *TINY], "unknown target 'onnxx'"),
        (["--model", "sinet", "--weights", "random", "--input-size", "33x64"], "multiples of 32"),
        (["--model", "sinet", "--threads", "999", *TINY], "--threads 999"),
        (["--model", "sinet", "--cores", "0,1,2", *TINY], "one for every thread"),
        (["--model", "sinet", "--to", "onnx", "--precision", "fp33", *TINY], "unknown precision 'fp33'"),
        (["--profile", "absent.onnx"], "no file absent.onnx"),
        (["--model", "sinet", "--to", "onnx", "--peers", "selfi"], "did you mean selfie"),
        (["absent.onnx", "--report", "/proc/nowhere"], "choose another --report DIR"),
        (["--profile", "absent.txt"], "cannot be counted"),
        (["--profile", "--model", "sinett"], "did you mean sinet"),
    ],
)
def test_errors_are_one_line_and_exit_1(argv: list[str], says: str, capsys: Capture) -> None:
    assert cli.main(argv) == 1
    error = capsys.readouterr().err.strip()
    assert says in error
    assert len(error.splitlines()) == 1


def test_an_artifact_without_a_record(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "x.tflite").write_bytes(b"\0\0\0\0TFL3" + bytes(40))
    assert cli.main([str(tmp_path / "x.tflite")]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_cuda_without_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert cli.main(["--model", "sinet", "--device", "cuda"]) == 1
    error = capsys.readouterr().err.strip()
    assert "sees no CUDA device" in error
    assert len(error.splitlines()) == 1


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch, measured: Callable[..., Row]) -> list[Subject]:
    """Rows without a clock: eager rows succeed, the second subject's process dies. Returns what was asked for."""
    asked: list[Subject] = []

    def one(subject: Subject, *_: Any) -> Row:
        asked.append(subject)
        if len(asked) == 2:
            raise Failed("the measured process was killed by SIGSEGV")
        return measured(subject=subject)

    monkeypatch.setattr(timing_mode.measured, "__defaults__", (one, *timing_mode.measured.__defaults__[1:]))  # type: ignore[index]
    return asked


def test_a_dying_row_leaves_the_others(faked: list[Subject], tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "r.json"
    assert cli.main(["--model", "sinet,c3net,extremec3net", "--weights", "random", "--json", str(path)]) == 1
    out, error = capsys.readouterr()
    assert "sinet-random" in out and "extremec3net-random" in out
    assert error.splitlines()[-1] == (
        "lightseg-bench: c3net-random, PyTorch eager failed: the measured process was killed by SIGSEGV"
    )
    data = json.loads(path.read_text())
    assert [row["subject"]["label"] for row in data["rows"]] == ["sinet-random", "extremec3net-random"]
    assert data["failed"] == {"c3net-random, PyTorch eager": "the measured process was killed by SIGSEGV"}
    assert len(data["rows"][0]["processes"][0]["sampled"]["samples_ns"]) == 400
    assert data["environment"]["versions"]["lightseg"]


def test_finished_rows_are_in_the_file_while_the_next_is_measured(
    monkeypatch: pytest.MonkeyPatch, measured: Callable[..., Row], tmp_path: Path
) -> None:
    path, seen = tmp_path / "r.json", []

    def one(subject: Subject, *_: Any) -> Row:
        if path.exists():
            seen.append(len(json.loads(path.read_text())["rows"]))
            raise KeyboardInterrupt
        return measured(QUICK, subject)

    subjects = [Subject("a", "x", (1, 3, 8, 8), None), Subject("b", "x", (1, 3, 8, 8), None)]
    with pytest.raises(KeyboardInterrupt):
        report.bench(subjects, QUICK, [[0]], None, path, one=one)
    assert seen == [1]
    assert len(json.loads(path.read_text())["rows"]) == 1

    asked: list[str] = []

    def again(subject: Subject, *_: Any) -> Row:
        asked.append(subject.label)
        return measured(QUICK, subject)

    whole = report.bench(subjects, QUICK, [[0]], None, path, resume=True, one=again)
    assert asked == ["b"]
    assert [row.subject.label for row in whole.rows] == ["a", "b"]
    assert len(whole.resumed) == 1
    assert json.loads(path.read_text())["rows"][0] == json.loads(json.dumps(whole.rows[0].to_dict()))


def test_a_resumed_run_that_ends_early_keeps_the_rows_it_had(measured: Callable[..., Row], tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    first, second, third = (Subject(name, "x", (1, 3, 8, 8), None) for name in "abc")

    def one(subject: Subject, *_: Any) -> Row:
        if subject is first:
            raise KeyboardInterrupt
        return measured(QUICK, subject)

    def held() -> list[str]:
        return [row["subject"]["label"] for row in json.loads(path.read_text())["rows"]]

    report.bench([second], QUICK, [[0]], None, path, one=one)
    with pytest.raises(KeyboardInterrupt):
        report.bench([first, second], QUICK, [[0]], None, path, resume=True, one=one)
    assert held() == ["b"]
    whole = report.bench([third], QUICK, [[0]], None, path, resume=True, one=one)
    assert held() == [row.subject.label for row in whole.rows] == ["c", "b"]


def test_a_run_resumed_elsewhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    report.bench([], QUICK, [[0]], None).save(path)
    path.write_text(path.read_text().replace(environment([0])["cpu"], "another"))
    with pytest.raises(BadInput, match="another cpu; name a new file"):
        report.bench([], QUICK, [[0]], None, path, resume=True)


def test_every_row_once_with_each_number_of_threads(measured: Callable[..., Row]) -> None:
    said: list[str] = []

    def one(subject: Subject, protocol: Protocol, cores: list[int], *_: Any) -> Row:
        return replace(measured(subject=subject), threads=len(cores))

    subjects = [Subject(label, "x", (1, 3, 8, 8), None) for label in "ab"]
    whole = report.bench(subjects, QUICK, [[0], [0, 1]], announce=said.append, one=one)
    assert [(row.subject.label, row.threads) for row in whole.rows] == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert said[1] == "measuring a, x, 2 threads (2 of 4)"


def test_progress_says_how_long_the_rest_may_take() -> None:
    ticks = iter([0.0, 200.0, 300.0])
    progress = report.Progress(4, lambda: next(ticks))
    assert [progress.step() for _ in range(3)] == [
        " (1 of 4)",
        " (2 of 4, about 10 min left)",
        " (3 of 4, about 5 min left)",
    ]


@pytest.mark.parametrize(("seconds", "count"), [(None, 500), (10.0, 20), (0.1, 1), (1e4, 500)])
def test_a_limit_cuts_the_samples_of_slow_networks(seconds: float | None, count: int) -> None:
    protocol = Protocol(limit_seconds=seconds)
    assert protocol.affordable({"window_medians_ns": [9e9, 0.5e9]}) == count


def test_json_on_standard_output_is_json_alone(faked: list[Subject], capsys: Capture) -> None:
    assert cli.main(["--model", "sinet", *TINY, "--json"]) == 0
    out, error = capsys.readouterr()
    assert json.loads(out)["rows"][0]["verdict"] == "PUBLISHABLE"
    assert "random weights: architecture only" in error


STRICT = [("PUBLISHABLE", ["--strict"], 0), ("NOISY", ["--strict"], 1), ("INVALID", ["--strict"], 1), ("NOISY", [], 0)]


@pytest.mark.parametrize(("verdict", "words", "status"), STRICT)
def test_strict_ends_with_1_where_a_row_is_not_to_be_quoted(
    verdict: str, words: list[str], status: int, faked: list[Subject], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(Row, "verdict", verdict)
    monkeypatch.setattr(Row, "reasons", ["the wind"])
    assert cli.main(["--model", "sinet", *TINY, *words]) == status
    assert (f"is {verdict}: the wind" in capsys.readouterr().err) == bool(status)


def test_strict_without_measured_rows_is_a_usage_error() -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--profile", "--model", "sinet", "--strict"])
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("argv", "protocol", "samples"),
    [([], FULL, FULL.samples), (["--quick"], QUICK, 200), (["--samples", "7"], FULL, 7)],
)
def test_protocol_options(argv: list[str], protocol: Any, samples: int) -> None:
    chosen = timing_mode.protocol(cli.parser().parse_args(["a.onnx", *argv]))
    assert chosen.samples == samples
    assert (chosen.seconds, chosen.processes) == (protocol.seconds, protocol.processes)


def test_profile_prints_published_figures_in_a_column_of_their_own(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    assert cli.main(["--profile", "--model", "extremec3net", "--json", str(path)]) == 0
    out = capsys.readouterr().out
    for expected in ("37,738", "127,766,912", "255,533,824", "published", "arXiv:1908.03093"):
        assert expected in out
    (data,) = json.loads(path.read_text())
    assert data["counted"]["macs"] == 127_766_912
    assert data["published"]["macs"]["value"] == 0.128e9


def test_profile_at_another_size_has_no_published_figure(capsys: Capture) -> None:
    assert cli.main(["--profile", "--model", "extremec3net", "--input-size", "32x32"]) == 0
    assert "published" not in capsys.readouterr().out
