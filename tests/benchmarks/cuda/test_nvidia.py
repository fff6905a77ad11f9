"""What nvidia-smi tells, from its words."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lightseg.benchmarks.cuda.nvidia import NOT_AVAILABLE, REASONS, ask, gpu_facts, gpu_state, reasons, slowed

VALUES = {"name": "NVIDIA H200", "driver_version": "580.1", "clocks.sm": "1980", "power.draw": "[N/A]"}


def told(fields: Sequence[str]) -> list[str] | None:
    """A driver that knows today's name of the reasons."""
    return ["0x0000000000000024"] if fields == [REASONS[0]] else [VALUES.get(name, "7") for name in fields]


def old(fields: Sequence[str]) -> list[str] | None:
    if REASONS[0] in fields:
        return None
    return ["0x0000000000000001"] if fields == [REASONS[1]] else told(fields)


def test_facts_and_the_state_at_the_start() -> None:
    facts = gpu_facts(told)
    assert (facts["gpu"]["name"], facts["gpu"]["driver"], facts["gpu"]["memory_mib"]) == ("NVIDIA H200", 580.1, 7.0)
    assert facts["gpu_state"]["clock_mhz"] == 1980 and facts["gpu_state"]["watts"] == NOT_AVAILABLE
    assert facts["gpu_state"]["throttling"] == ["power cap", "thermal slowdown (software)"]
    assert gpu_state(old)["throttling"] == ["idle"]


def test_without_the_driver_everything_is_not_available() -> None:
    facts = gpu_facts(lambda fields: None)
    assert set(facts["gpu"].values()) == {NOT_AVAILABLE}
    assert facts["gpu_state"]["throttling"] == NOT_AVAILABLE
    assert ask(["name"], "no-such-program-anywhere") is None


@pytest.mark.parametrize(
    ("bits", "words"), [("0x0", []), ("0x48", ["hardware slowdown", "thermal slowdown (hardware)"])]
)
def test_reasons(bits: str, words: list[str]) -> None:
    assert reasons(bits) == words


def test_unreadable_reasons() -> None:
    assert reasons("[Not Supported]") == NOT_AVAILABLE


def test_only_a_lowered_clock_makes_a_row_noisy() -> None:
    states: list[dict[str, Any]] = [
        {"throttling": ["idle"]},
        {"throttling": ["idle", "power cap"]},
        {"throttling": NOT_AVAILABLE},
        {},
    ]
    assert slowed(states) == ["power cap"]
    assert slowed(()) == []


@pytest.mark.parametrize(
    ("script", "values"),
    [("echo 'NVIDIA X, 12'", ["NVIDIA X", "12"]), ("echo no; exit 6", None), ("echo one", None)],
)
@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_the_program_itself(script: str, values: list[str] | None, tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    assert ask(["name", "clocks.sm"], str(program)) == values
