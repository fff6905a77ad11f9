"""Exact counters of real files, and the counting of instructions with and without valgrind."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightseg.benchmarks.counting import counters, instructions
from lightseg.benchmarks.counting.counted import Counted
from lightseg.benchmarks.counting.counters import count_artifact
from lightseg.benchmarks.counting.instructions import Instructions, count_instructions, net, read_totals
from lightseg.benchmarks.counting.marks import MARKS, START, client_request
from lightseg.benchmarks.counting.tables import counter_notes, counters_table
from lightseg.benchmarks.profile import count_file
from lightseg.benchmarks.timing.process import Failed
from lightseg.errors import BadInput, Unsupported


@pytest.fixture
def no_valgrind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)


def told(path: Path, x: Any) -> Instructions:
    assert x.shape == (1, 3, 32, 64) and x.dtype == np.float32
    return Instructions((1200, 1000, 1010), "made up")


@pytest.mark.parametrize("target", ["onnx", "tflite"])
def test_counters_of_a_file(target: str, small: dict[str, Path]) -> None:
    path = small[target]
    found = count_artifact(path, count=told)
    cost = count_file(path)
    assert found.counts["params"] == cost.params and found.counts["macs"] == cost.macs > 0
    assert found.counts["operators"] == sum(cost.ops.values())
    apart = found.counts["layout"] + found.counts["casts"]
    kinds = [count for name, count in found.counts.items() if name.startswith("operators.")]
    assert sum(kinds) + apart == found.counts["operators"]
    assert found.counts["artifact_bytes"] == path.stat().st_size
    assert found.counts["instructions"] == 1000
    assert (found.counts.get("partitions") == 1) == (target == "tflite")
    assert ("partitions" in found.missing) == (target == "onnx")


def test_without_valgrind_the_rest_is_counted(no_valgrind: None, small: dict[str, Path]) -> None:
    found = count_artifact(small["tflite"])
    assert found.missing == {"instructions": "not available: install valgrind"}
    assert "instructions" not in found.counts
    assert any("install valgrind" in line for line in counter_notes([found]))
    assert counters_table([found, count_artifact(small["onnx"], count=told)]).row_count > 10
    with pytest.raises(Unsupported, match="install valgrind"):
        count_instructions(small["tflite"], np.zeros((1, 3, 32, 64), np.float32))


def test_a_file_without_a_record_can_be_counted_if_it_is_a_peer(shared: Path) -> None:
    found = count_artifact(
        shared / "peers" / "selfie_segmentation.tflite", count=lambda path, x: Instructions((5,), "made up")
    )
    assert found.counts["macs"] == 59_215_744
    assert found.counts["partitions"] == 1


def test_other_files_are_refused() -> None:
    with pytest.raises(BadInput, match="cannot be counted"):
        count_artifact(Path("x.txt"))


def test_the_empty_region_is_taken_off(tmp_path: Path) -> None:
    for number, total in enumerate((500, 1500, 1501, 1499, *[1500] * 7), start=1):
        (tmp_path / f"counts.{number}").write_text(f"events: Ir\ntotals: {total}\n")
    assert net(read_totals(tmp_path / "counts"))[:3] == (1000, 1001, 999)
    counted = Instructions(net(read_totals(tmp_path / "counts")), "x")
    assert counted.count == 999
    assert counted.spread == pytest.approx(2 / 999)


def test_no_counts_at_all(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="wrote no counts"):
        read_totals(tmp_path / "counts")


def test_the_counted_process_runs_the_artifact(small: dict[str, Path], tmp_path: Path) -> None:
    from lightseg.export.verification import load

    session = Counted("syscall")
    x = np.random.default_rng(0).random((1, 3, 32, 64), np.float32)
    np.save(tmp_path / "x.npy", x)
    opened = session.requests["open"]({"path": str(small["tflite"])})
    assert opened["details"]["runtime"] == "ai-edge-litert"
    session.requests["run"]({"input": str(tmp_path / "x.npy"), "output": str(tmp_path / "y.npy")})
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), load(small["tflite"])(x))
    assert session.requests["count"]({"runs": 2}) == {}


def test_marks_enclose_every_run_and_one_empty_region(small: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    class Logged:
        def begin(self) -> None:
            log.append("begin")

        def end(self) -> None:
            log.append("end")

    monkeypatch.setitem(MARKS, "syscall", Logged)
    session = Counted("syscall")
    session.open({"path": str(small["tflite"])})
    run = session.runner.run

    def logged() -> None:
        log.append("run")
        run()

    monkeypatch.setattr(session.runner, "run", logged)
    session.count({"runs": 2})
    assert log == ["begin", "end", "begin", "run", "end", "begin", "run", "end"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the sign is made of x86-64 instructions")
def test_outside_valgrind_its_sign_does_nothing() -> None:
    assert client_request()(START) == 0


def test_other_processors_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(Unsupported, match="x86-64 only, and this is riscv64"):
        MARKS["callgrind"]()


def test_a_child_that_cannot_open_is_one_line(tmp_path: Path) -> None:
    import sys

    command = [sys.executable, "-m", instructions.COUNTED_MODULE, "syscall"]
    (tmp_path / "x.tflite").write_bytes(b"no model")
    with (
        pytest.raises(Failed, match="does not load in LiteRT"),
        instructions.CountedRunner(tmp_path / "x.tflite", command, tmp_path),
    ):
        pass


@pytest.mark.slow
def test_valgrind_counts_the_same_twice(small: dict[str, Path]) -> None:
    if reason := instructions.why_not():
        pytest.skip(reason)
    x = counters.one_input(small["tflite"])
    first, second = (count_instructions(small["tflite"], x, runs=2) for _ in range(2))
    macs = count_file(small["tflite"]).macs
    assert first.count == pytest.approx(second.count, rel=2e-3)
    assert macs / 16 < first.count < macs * 16
