"""Rows from a browser: complete, judged as all others, and one line where the browser or the answer fails."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lightseg.benchmarks import cli
from lightseg.benchmarks.browser import chromium, mode, runtimes
from lightseg.benchmarks.browser.child import PageChild, Place
from lightseg.benchmarks.browser.contract import Contract
from lightseg.benchmarks.browser.mode import measure_in, subjects
from lightseg.benchmarks.browser.table import parity_table
from lightseg.benchmarks.page.view import read_results, view
from lightseg.benchmarks.results.report import Report
from lightseg.benchmarks.timing.latency import Protocol
from lightseg.benchmarks.timing.measure import Row
from lightseg.benchmarks.timing.process import Failed
from lightseg.errors import BadInput, Unsupported

Capture = pytest.CaptureFixture[str]
MakePlace = Callable[[str], Place]
SHORT = Protocol(samples=40, seconds=0, processes=1, warmup_seconds=1, inputs=3)
CORE = [min(os.sched_getaffinity(0))] if hasattr(os, "sched_getaffinity") else [0]


def row_of(place: Place, path: Path, cores: list[int] = CORE) -> Row:
    return measure_in(place, subjects([path])[0], SHORT, cores, None)


@pytest.fixture(scope="module")
def row(small: dict[str, Path], stand_in: MakePlace) -> Row:
    return row_of(stand_in("honest"), small["onnx"])


def test_a_row_is_complete(row: Row) -> None:
    assert row.invalid == []
    assert row.subject.runtime == "onnxruntime-web"
    assert row.subject.device == "browser"
    assert [one["flips"] for one in row.processes[0].goldens["checked"]] == [0, 0]
    assert row.details["version"] == runtimes.ONNXRUNTIME.version
    assert row.details["clock"] == "performance.now(), 5 µs steps"
    assert row.details["isolated"] == "yes"
    mask = row.latency("image_to_mask")
    assert row.run.count == 40
    assert mask is not None
    assert mask.median == 2_000_000
    assert row.latency("run_cpu") is None


def test_it_is_a_result_like_any_other(row: Row, tmp_path: Path) -> None:
    Report(CORE, {"cpu": "x"}, rows=[row]).save(tmp_path / "r.json")
    shown = view(read_results([tmp_path / "r.json"]))
    assert [line.runtime for line in shown.lines] == ["onnxruntime-web"]
    table = StringIO()
    Console(file=table, width=200).print(parity_table([row]))
    assert "0 of 4,096" in table.getvalue()
    assert "yes" in table.getvalue()


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        ("dies", "the browser ended with exit code 1: out of memory"),
        ("crashes", "the page is gone"),
        ("failing", "operator Mystery is not known"),
    ],
)
def test_what_ends_badly_is_one_line(behaviour: str, says: str, small: dict[str, Path], stand_in: MakePlace) -> None:
    with pytest.raises(Failed, match=says) as caught:
        row_of(stand_in(behaviour), small["onnx"])
    assert "\n" not in str(caught.value)


def test_a_browser_that_opens_nothing(small: dict[str, Path], stand_in: MakePlace) -> None:
    slow = stand_in("deaf")
    place = Place(slow.program, slow.runtimes, start_seconds=6)
    with pytest.raises(Failed, match="did not open the page within 6 s; it said: cannot open display"):
        row_of(place, small["onnx"])


@pytest.mark.skipif(len(CORE) == 0 or len(getattr(os, "sched_getaffinity", lambda _: [0])(0)) < 2, reason="one core")
def test_threads_that_are_not_started_are_noticed(small: dict[str, Path], stand_in: MakePlace) -> None:
    cores = sorted(os.sched_getaffinity(0))[:2]
    with pytest.raises(Failed, match="asked for 2 threads, onnxruntime-web uses 2 and started 0 workers"):
        row_of(stand_in("single"), small["onnx"], cores)


def test_nothing_is_left_behind(small: dict[str, Path], stand_in: MakePlace, tmp_path: Path) -> None:
    place = stand_in("honest")
    profile = ""
    contract = Contract.of({"input": "NCHW float32", "output": "NCHW float32"})
    with PageChild(place, contract, CORE) as child:
        profile, pid = child.browser.profile, child.browser.process.pid
        assert Path(profile).is_dir()
    assert not Path(profile).exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.fixture
def machine(stand_in: MakePlace, runtimes_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """The command finds a browser that behaves as named."""
    monkeypatch.setattr(runtimes, "default_folder", lambda: runtimes_folder)
    return lambda behaviour: monkeypatch.setenv(chromium.VARIABLE, str(stand_in(behaviour).program))


QUICK = ["--device", "browser", "--samples", "40", "--seconds", "0", "--processes", "1"]


def test_the_command_fails_on_a_wrong_answer(
    machine: Callable[[str], None], small: dict[str, Path], capsys: Capture
) -> None:
    machine("wrong")
    assert cli.main([*QUICK, str(small["onnx"])]) == 1
    captured = capsys.readouterr()
    assert "INVALID" in captured.out
    assert "extremec3net-random, onnxruntime-web: in the browser" in captured.err
    assert "does not repeat its golden output" in captured.err


def test_finished_rows_survive_a_crash(
    machine: Callable[[str], None],
    small: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    machine("honest")
    original, calls = mode.measure_in, list[int]()

    def second_crashes(place: Place, *arguments: Any) -> Row:
        calls.append(1)
        if len(calls) == 2:
            raise Failed("the page is gone: its process crashed")
        return original(place, *arguments)

    monkeypatch.setattr(mode, "measure_in", second_crashes)
    paths = [str(small["onnx"]), str(small["onnx"])]
    assert cli.main([*QUICK, *paths, "--json", str(tmp_path / "r.json")]) == 1
    result = json.loads((tmp_path / "r.json").read_text())
    assert len(result["rows"]) == 1
    assert list(result["failed"].values()) == ["the page is gone: its process crashed"]
    assert result["rows"][0]["subject"]["device"] == "browser"
    assert result["environment"]["versions"]["onnxruntime-web"] == runtimes.ONNXRUNTIME.version
    assert "answers in the browser" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--against", "b.onnx", "a.onnx"], "--against takes turns"),
        (["--setup", "--device", "cpu"], "--setup belongs to"),
    ],
)
def test_wrong_usage(options: list[str], says: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--device", "browser", *options])
    assert says in capsys.readouterr().err


def test_a_file_of_another_format_is_refused(small: dict[str, Path]) -> None:
    from dataclasses import replace

    own = subjects([small["onnx"]])[0]
    with pytest.raises(BadInput, match="is ncnn, which runs in no browser; export with --to onnx,tflite"):
        mode.in_browser(replace(own, runtime="ncnn"), "ncnn")


def test_an_element_type_the_page_cannot_feed() -> None:
    with pytest.raises(Unsupported, match="cannot feed NHWC int8"):
        Contract.of({"input": "NHWC int8", "output": "NHWC int8"})


def test_no_browser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(chromium.VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(chromium, "PLACES", ())
    with pytest.raises(Unsupported, match=r"apt-get install chromium.*--chromium FILE or \$LIGHTSEG_CHROMIUM"):
        chromium.find()
    with pytest.raises(BadInput, match="no program that can be run"):
        chromium.find(tmp_path / "absent")


def test_the_sandbox_is_left_out_for_root_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000, raising=False)
    assert chromium.sandbox_options() == []
    monkeypatch.setattr(os, "getuid", lambda: 0, raising=False)
    assert chromium.sandbox_options() == ["--no-sandbox"]
