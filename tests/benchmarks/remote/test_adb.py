"""A phone, by a stand-in of the program adb: every way it fails is one line, and what is finished stays."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from lightseg.benchmarks import cli
from lightseg.benchmarks.remote.adb import Adb, explain, parse, thermal_name
from lightseg.benchmarks.remote.benchmark_model import read
from lightseg.benchmarks.timing.process import Failed
from lightseg.errors import BadInput
from tests.benchmarks.remote.conftest import ECONOMY, HERE, Phone, program

Capture = pytest.CaptureFixture[str]
DEVICE = ["--device", "adb:R58"]


def bench(*argv: str | Path) -> int:
    return cli.main([*map(str, argv), *DEVICE, *ECONOMY])


def said(capsys: Capture) -> str:
    """The only line, but for those that tell what is being done."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lightseg-bench: ")]
    assert len(lines) == 1
    return lines[0].removeprefix("lightseg-bench: ")


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    """benchmark_model, as it would be built for the phone."""
    stand_in = HERE / "stand_in_benchmark_model.py"
    return program(tmp_path / "benchmark_model", f'#!/bin/sh\nexec {sys.executable} {stand_in} "$@"\n')


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("none", "adb:R58 is not connected; plug it in"),
        ("absent", "adb:R58 is not connected; plug it in"),
        ("unauthorized", "adb:R58 is not authorised; unlock it and accept"),
        ("offline", "adb:R58 is offline; unplug it"),
        ("several", "adb:R58 could be any of several devices; name one with adb:SERIAL"),
        ("daemon", "adb:R58 cannot be reached: adb's server does not start"),
        ("full", "adb:R58 is full (adb: error: failed to copy"),
        ("device", "adb:R58 has neither Python nor benchmark_model"),
    ],
)
def test_a_phone_that_cannot_be_used_is_one_line(
    phone: Phone, small: dict[str, Path], state: str, says: str, capsys: Capture
) -> None:
    phone.is_(state)
    assert bench(small["tflite"]) == 1
    assert said(capsys).startswith(says)
    assert phone.left == []


def test_without_adb_it_says_so(small: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert bench(small["tflite"]) == 1
    assert said(capsys) == "there is no program adb here; install it first"


def test_benchmark_model_measures_where_there_is_no_python(
    phone: Phone, small: dict[str, Path], tool: Path, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "r.json"
    assert bench(small["tflite"], small["onnx"], "--benchmark-model", tool, "--json", file) == 1
    out, error = capsys.readouterr()
    assert "told by benchmark_model" in out and "SUMMARY ONLY" in out
    assert "Pixel 0, GS0" in out and "throttling none, battery at 31.4 °C" in out
    assert error.splitlines()[-1] == (
        "lightseg-bench: extremec3net-random, onnx failed: benchmark_model runs .tflite files only; export "
        "extremec3net-random with --to tflite"
    )
    data = json.loads(file.read_text())
    (summary,) = data["summaries"]
    (told,) = summary["processes_us"]
    assert told["count"] == 5 and told["minimum"] <= told["median"] <= told["p95"] <= told["maximum"]
    assert told["delegate"].endswith("completely executed by the delegate.")
    assert (summary["compared"], summary["verdict"], data["rows"]) == (True, "SUMMARY ONLY", [])
    assert data["environment"]["battery"]["level"] == "80"
    assert phone.left == []


@pytest.mark.parametrize(
    ("behaviour", "code", "says"),
    [
        ("wrong", 1, "does not repeat its golden output"),
        ("old", 0, "its answers were not compared: this benchmark_model knows no --output_filepath"),
        ("mute", 1, "benchmark_model told no timings"),
    ],
)
def test_answers_are_compared_where_they_can_be_had(
    phone: Phone, small: dict[str, Path], tool: Path, behaviour: str, code: int, says: str,
    monkeypatch: pytest.MonkeyPatch, capsys: Capture,
) -> None:  # fmt: skip
    monkeypatch.setenv("BEHAVIOUR", behaviour)
    assert bench(small["tflite"], "--benchmark-model", tool) == code
    out, error = capsys.readouterr()
    assert says in " ".join((out + error).split())
    assert ("INVALID" in out) == (behaviour == "wrong")


@pytest.mark.slow
def test_a_throttling_phone_is_noted(
    phone: Phone, small: dict[str, Path], tool: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("HEAT", "3")
    assert bench(small["tflite"], "--benchmark-model", tool) == 0
    out = capsys.readouterr().out
    assert "throttling severe" in out and "the phone throttled" in out


@pytest.mark.slow
def test_our_runner_measures_where_there_is_python(
    phone: Phone, small: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    phone.install("python3", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    file = tmp_path / "r.json"
    assert bench(small["tflite"], "--json", file) == 0
    data = json.loads(file.read_text())
    (row,) = data["rows"]
    assert len(row["processes"][0]["sampled"]["samples_ns"]) == 8
    assert (row["processes"][0]["goldens"]["wrong"], len(row["processes"][0]["goldens"]["checked"])) == ("", 2)
    assert data["environment"]["device"] == "adb:R58" and data["environment"]["phone"] == "Pixel 0"
    assert phone.left == []


@pytest.mark.parametrize("lost_at", ["--input_layer", pytest.param("--num_runs", marks=pytest.mark.slow)])
def test_a_phone_lost_on_the_way_keeps_what_is_finished(
    phone: Phone, small: dict[str, Path], tool: Path, lost_at: str, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "r.json"
    other = tmp_path / "other.tflite"
    other.write_bytes(small["tflite"].read_bytes())
    (tmp_path / "other.tflite.json").write_bytes(Path(f"{small['tflite']}.json").read_bytes())
    phone.is_(f"lost at {small['tflite'].name} --num_threads=1 {lost_at}")
    assert bench(other, small["tflite"], small["tflite"], "--benchmark-model", tool, "--json", file) == 1
    line = said(capsys)
    assert line.startswith("extremec3net-random, tflite failed: adb:R58 is not connected; plug it in")
    assert line.endswith("1 more not measured")
    assert len(json.loads(file.read_text())["summaries"]) == 1


@pytest.mark.parametrize("text", ["adb:a b", "adb:$(id)", "adb:R58;ls"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="is not adb:SERIAL"):
        parse(text)


def test_serials_are_given_to_every_command() -> None:
    assert parse("adb:192.168.0.7:5555").call("push", "a") == ["adb", "-s", "192.168.0.7:5555", "push", "a"]
    assert parse("adb:").call("shell") == ["adb", "shell"]
    assert Adb("adb:x", "x").command("ls") == ["adb", "-s", "x", "shell", "ls"]


def test_a_command_s_own_failure_is_not_the_phone_s() -> None:
    assert explain("adb:x", "sh: frobnicate: not found") is None


@pytest.mark.parametrize(
    ("line", "name"), [("Thermal Status: 0", "none"), ("Thermal Status: 6", "shutdown"), ("", "not readable")]
)
def test_throttling_has_android_s_names(line: str, name: str) -> None:
    assert thermal_name(line) == name


OLD = """
Timings (microseconds): count=50 first=79449 curr=81350 min=77385 max=88213 avg=79732 std=1929
Inference timings in us: Init: 38467, First inference: 79449, Warmup (avg): 83235, Inference (avg): 79760.9
"""


def test_versions_without_percentiles_are_read_too() -> None:
    told = read(OLD)
    assert (told.count, told.minimum, told.median, told.average) == (50, 77385, None, 79760.9)
    with pytest.raises(Failed, match="told no timings"):
        read("ERROR: Failed to load model")
