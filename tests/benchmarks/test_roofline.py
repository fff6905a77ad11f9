"""The bound of every operator, the sums over sorts of them, and the runtime's own times put beside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightseg.benchmarks.ceilings import copied
from lightseg.benchmarks.cli import main
from lightseg.benchmarks.counting.cost import Cost, Kind, LayerCost
from lightseg.benchmarks.profile import count_file, model_cost
from lightseg.benchmarks.roofline import ELEMENTWISE, GROUPS, conclusions, roofline

CEILINGS = {"macs_per_second": 1e9, "bytes_per_second": 1e9, "bytes_per_second_of": [[1e3, 4e9], [1e6, 1e9]]}


def _layer(name: str, kind: Kind, macs: int, moved: int, taps: int = 1) -> LayerCost:
    return LayerCost(name, kind, kind, (1,), 0, macs, moved, 0, taps)


COST = Cost(
    "two",
    (
        _layer("a", "conv", 2_000_000, 1_000, taps=9),
        _layer("b", "conv", 1_000, 2_000_000),
        _layer("scale", "depthwise", 10, 500),
        _layer("act", "activation", 0, 4_000_000),
        _layer("seen", "view", 0, 0),
    ),
    {},
    0,
    {},
)


def test_an_operator_takes_its_work_or_its_traffic() -> None:
    """2 M MACs at 1 G/s are 2 ms; 2 MB at 1 GB/s too; 500 bytes move as fast as the smallest copy."""
    found = roofline(COST, CEILINGS, {})
    bounds = {group.name: group.bound for group in found.groups}
    assert bounds["convolution k×k"] == pytest.approx(2.0) and bounds["convolution 1×1"] == pytest.approx(2.0)
    assert bounds[ELEMENTWISE] == pytest.approx(4.0 + 1e3 * 500 / 4e9)
    assert found.arithmetic == pytest.approx(1e3 * COST.macs / 1e9)
    assert found.fused == pytest.approx(4.0) and found.bound == pytest.approx(sum(bounds.values()))
    assert found.measured is None and all(group.measured is None for group in found.groups)
    assert sum(group.operators for group in found.groups) == 4


def test_a_slow_copy_of_a_small_array_does_not_raise_a_bound() -> None:
    ceilings = {**CEILINGS, "bytes_per_second_of": [[1e3, 1e9], [1e6, 2e9]]}
    found = roofline(COST, ceilings, {})
    assert next(g for g in found.groups if g.name == "convolution k×k").traffic == pytest.approx(1e3 * 1_000 / 2e9)


def test_measured_times_are_told_apart_by_name_and_what_a_runtime_adds_by_kind() -> None:
    def timed(name: str, op: str, least: float) -> dict[str, Any]:
        return {"name": name, "op": op, "kind": "", "value": 9.0, "least": least}

    layers = [timed("a_nchwc", "Conv", 3.0), timed("b", "FusedConv", 2.0), timed("scale_nchwc", "Conv", 1.0)]
    profile = {"layers": [*layers, timed("ReorderInput_token_1", "ReorderInput", 0.5)], "source": "a profiler"}
    found = roofline(COST, CEILINGS, profile)
    measured = {group.name: group.measured for group in found.groups}
    wanted = {"convolution k×k": 3.0, "convolution 1×1": 2.0, ELEMENTWISE: 1.0, "data movement": 0.5}
    assert measured == wanted and found.measured == 6.5
    assert conclusions(found)[-1] == "measured: a profiler; the least of each operator, together 6.500 ms"


@pytest.mark.parametrize("target", ["onnx", "tflite"])
def test_files_know_how_large_windows_are(small: dict[str, Path], target: str) -> None:
    cost = count_file(small[target])
    found = roofline(cost, CEILINGS, {})
    assert {layer.taps for layer in cost.layers if layer.kind in ("conv", "depthwise")} >= {1, 9}
    assert all(layer.taps == 1 for layer in cost.layers if layer.kind not in ("conv", "depthwise", "transposed conv"))
    assert sum(group.macs for group in found.groups) == cost.macs
    assert {group.name for group in found.groups} <= {*GROUPS.values(), "convolution 1×1"}


def test_a_model_has_taps_too() -> None:
    taps = {layer.taps for layer in model_cost("sinet", (64, 64)).layers if layer.kind == "depthwise"}
    assert taps == {9, 25}


def test_the_command_sets_a_file_against_the_machine(
    small: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lightseg.benchmarks.ceilings.measure_ceilings", lambda cores: CEILINGS)
    told = tmp_path / "told.json"
    assert main(["--profile", "--roofline", str(small["onnx"]), str(small["tflite"]), "--json", str(told)]) == 0
    onnx, tflite = (one["roofline"] for one in json.loads(told.read_text(encoding="utf-8")))
    assert onnx["measured"] > 0 and onnx["profile"].startswith("ONNX Runtime's profiler")
    assert tflite["measured"] is None and "no profiler" in tflite["profile"]
    assert 0 < onnx["fused"] <= onnx["bound"] and onnx["arithmetic"] <= onnx["bound"]
    assert "operator by operator, each by itself" in capsys.readouterr().out


def test_roofline_needs_a_profile(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--model", "sinet", "--roofline"])
    assert "add --profile" in capsys.readouterr().err


def test_a_copy_is_counted_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    def best(run: Callable[[], object], seconds: float) -> float:
        run()
        return 0.5

    monkeypatch.setattr("lightseg.benchmarks.ceilings.best", best)
    assert copied(1 << 21) == [2.0 * (1 << 21), 2 * (1 << 21) * 2 / 0.5]
