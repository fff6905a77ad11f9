from __future__ import annotations

import json

import pytest

from lightseg.benchmarks.timing import environment as module
from lightseg.benchmarks.timing.environment import THREAD_VARIABLES, environment, quiet_cores, thread_environment


def test_facts_are_plain_data() -> None:
    facts = json.loads(json.dumps(environment([0])))
    assert facts["affinity"] == [0]
    assert {"torch", "numpy", "lightseg"} <= facts["versions"].keys()
    assert facts["cpu"]


def test_what_cannot_be_read_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_text", lambda path: "")
    facts = environment([])
    assert facts["governor"] == module.UNREADABLE
    assert facts["flags"] == []
    assert facts["virtual_machine"] is False


def test_quiet_cores_are_the_idle_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_cores", lambda: [1, 2, 5])
    readings = iter([{1: (0, 0), 2: (0, 0), 5: (0, 0)}, {1: (9, 0), 2: (1, 0), 5: (8, 0)}])
    monkeypatch.setattr(module, "core_times", lambda: next(readings))
    assert quiet_cores(2, watch_seconds=0) == [1, 5]


def test_without_readings_the_last_allowed_cores_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_cores", lambda: [1, 2, 5])
    monkeypatch.setattr(module, "core_times", dict)
    assert quiet_cores(1) == [5]


def test_thread_variables() -> None:
    made = thread_environment(2)
    assert {made[name] for name in THREAD_VARIABLES} == {"2"}
    assert "PATH" in made
