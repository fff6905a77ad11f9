"""The page's timing loop under a clock that the test moves: counts, times, rotation, and what its audit catches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

ModuleCall = Callable[..., Any]


def timed(javascript: ModuleCall, **case: Any) -> dict[str, Any]:
    done: dict[str, Any] = javascript("cases.mjs", "timed", {"inputs": [1, 2, 3], "count": 7, "seconds": 0, **case})
    return done


def test_every_run_is_kept_and_inputs_take_turns(javascript: ModuleCall) -> None:
    done = timed(javascript)
    assert done["samples"] == [1] * 7
    assert done["order"] == [1, 2, 3, 1, 2, 3, 1]
    assert done["wall"] == 7


def test_count_and_time_must_both_be_reached(javascript: ModuleCall) -> None:
    assert len(timed(javascript, count=3, seconds=0.02)["samples"]) == 20
    assert len(timed(javascript, count=30, seconds=0.02)["samples"]) == 30


def test_one_image_can_be_repeated(javascript: ModuleCall) -> None:
    assert set(timed(javascript, rotate=False)["order"]) == {1}


def test_the_audit_sees_right_answers(javascript: ModuleCall) -> None:
    audit = timed(javascript)["audit"]
    assert audit == {"checked": 6, "worst": 0, "distinct": True}  # five runs of inputs with a reference, and the last


def test_the_audit_sees_answers_that_go_wrong_while_timed(javascript: ModuleCall) -> None:
    assert timed(javascript, broken=4)["audit"]["worst"] > 1


def test_the_last_run_is_audited_even_when_no_other_is(javascript: ModuleCall) -> None:
    assert timed(javascript, share=0)["audit"]["checked"] == 1


def test_the_audit_sees_that_the_input_is_not_read(javascript: ModuleCall) -> None:
    assert timed(javascript, frozen=True)["audit"]["distinct"] is False


@pytest.mark.parametrize(
    ("a", "b", "error"),
    [([1, 2], [1, 2], 0), ([1, 3], [1, 2], 0.5), ([1, np.nan], [1, 2], "infinite"), ([1], [1, 2], "infinite")],
)
def test_relative_error(a: list[float], b: list[float], error: float | str, javascript: ModuleCall) -> None:
    assert javascript("cases.mjs", "off", np.array(a, np.float32), np.array(b, np.float32)) == error


def test_the_clocks_step_is_found(javascript: ModuleCall) -> None:
    assert javascript("cases.mjs", "clockSteps", 5) == 5


def test_audited_runs_are_drawn_evenly(javascript: ModuleCall) -> None:
    assert javascript("cases.mjs", "shareBelow", 0.25) == pytest.approx(0.25, abs=0.02)
