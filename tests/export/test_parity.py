"""The measure itself, on logits made by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lightseg.errors import ParityError
from lightseg.export.answers import Limit
from lightseg.export.artifact import Artifact
from lightseg.export.parity import ROUNDING, TOLERANCE, Parity, ProbeParity, boundary, compare
from lightseg.spec import PORTRAIT, RAW

LIMIT = Limit(largest=0.01, mean=0.005, agreement=0.99)
RECORD = Artifact(
    path=Path("x.onnx"), model="sinet", tag="t", target="onnx", precision="fp32", output="logits", baked=False,
    dynamic=False, input_shape=(1, 3, 4, 4), output_shape=(1, 2, 4, 4), layout={}, preprocess=RAW, labels=PORTRAIT,
    multiple=1, weights={}, tolerance={},
)  # fmt: skip


def logits(difference: float = 5.0) -> NDArray[np.float64]:
    """Two classes on 20×20: the right half is a person, by ``difference``; the largest logit is 10."""
    y = np.zeros((1, 2, 20, 20))
    y[0, 0] = 10 - difference
    y[0, 1, :, :10], y[0, 1, :, 10:] = 10 - 2 * difference, 10
    return y


def compared(got: NDArray[Any], want: NDArray[np.float64], limit: Limit = LIMIT, output: str = "logits") -> ProbeParity:
    return compare("probe", got, want, replace(RECORD, output=output), limit)


def test_equal_passes_with_nothing_to_report() -> None:
    row = compared(logits(), logits())
    assert row.ok and (row.max_error, row.decided_flips, row.agreement) == (0.0, 0, 1.0)


@pytest.mark.parametrize(("error", "passes"), [(0.0999, True), (0.1001, False)])
def test_the_largest_error_is_a_share_of_the_largest_logit(error: float, passes: bool) -> None:
    got = logits()
    got[0, 0, 3, 3] += error
    row = compared(got, logits())
    assert row.ok is passes and row.allowed == pytest.approx(0.1) and row.max_error == pytest.approx(error)
    assert row.relative_error == pytest.approx(error / 10)


def test_a_small_error_everywhere_fails_by_its_mean() -> None:
    row = compared(logits() + 0.06, logits())
    assert row.max_error < row.allowed and not row.ok


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_never_pass(value: float) -> None:
    for output in ("logits", "probability"):
        got = logits() if output == "logits" else np.full((1, 1, 20, 20), 0.9)
        got[0, 0, 0, 0] = value
        row = compared(got, logits(), Limit(1e9, 1e9, 0.0), output)
        assert not row.ok
        with pytest.raises(ParityError, match="NaN or infinity"):
            Parity("r", {}, (row,)).check("it")


@pytest.mark.parametrize("field", ["largest", "mean", "agreement"])
def test_a_limit_that_is_no_number_passes_nothing(field: str) -> None:
    assert not compared(logits(), logits(), replace(LIMIT, **{field: math.nan})).ok


def test_a_flip_of_a_decided_pixel_fails_whatever_the_error() -> None:
    mask = np.zeros((1, 1, 20, 20), np.uint8)
    mask[0, 0, :, 10:] = 1
    assert compared(mask, logits(), output="mask").ok
    mask[0, 0, 0, 0] = 1
    row = compared(mask, logits(), output="mask")
    assert not row.ok and (row.decided_flips, row.near_tie_flips, row.boundary_flips) == (1, 0, 0)


def test_near_ties_may_flip_up_to_the_agreement() -> None:
    want = logits(0.05)
    mask = np.zeros((1, 1, 20, 20), np.uint8)
    mask[0, 0, :, 10:] = 1
    for flips, passes in ((4, True), (5, False)):
        changed = mask.copy()
        changed[0, 0, :flips, 9] = 1
        row = compared(changed, want, output="mask")
        assert (row.near_tie_flips, row.decided_flips, row.boundary_flips) == (flips, 0, flips)
        assert row.ok is passes


def test_another_shape_is_no_agreement() -> None:
    with pytest.raises(ParityError, match="returns"):
        compared(logits()[:, :, :10], logits())
    with pytest.raises(ParityError, match="returns"):
        compared(logits()[0], logits())


def test_one_bad_probe_fails_all_and_is_named() -> None:
    good, bad = compared(logits(), logits()), replace(compared(logits() + 1, logits()), probe="the bad one")
    parity = Parity("r", {}, (good, bad, good))
    assert not parity.ok and parity.worst is bad and parity.relative_error == bad.relative_error
    with pytest.raises(ParityError, match=r"it .*the bad one.* 1 \(allowed 0.1\)"):
        parity.check("it")


def test_agreement_counts_pixels() -> None:
    row = compared(logits(), logits())
    parity = Parity("r", {}, (replace(row, agreement=1.0, pixels=100), replace(row, agreement=0.5, pixels=300)))
    assert parity.agreement == pytest.approx(0.625)


def test_boundary_is_where_neighbours_differ() -> None:
    mask = np.zeros((1, 4, 5), np.uint8)
    mask[0, 1, 2] = 1
    want = np.zeros((4, 5), bool)
    for row, column in ((1, 2), (0, 2), (2, 2), (1, 1), (1, 3)):
        want[row, column] = True
    np.testing.assert_array_equal(boundary(mask)[0], want)


def test_tolerances_are_small_finite_and_complete() -> None:
    for row in TOLERANCE.values():
        assert row.keys() - {"rounding"} == {"relative", "mean", "agreement"}
        assert 0 < row.get("rounding", ROUNDING) <= 4
        assert 0 < row["mean"] <= row["relative"] < 0.01 and 0.9 < row["agreement"] <= 1


def test_the_text_shows_every_probe_and_marks_the_wrong_ones() -> None:
    good, bad = compared(logits(), logits()), replace(compared(logits() + 1, logits()), probe="the bad one")
    with pytest.raises(ParityError) as caught:
        Parity("r", {}, (good, bad)).check("it")
    head, first, second = caught.value.diff.splitlines()
    assert "largest error" in head and "WRONG" not in first and "<=" in first
    assert second.startswith("the bad one") and second.endswith("WRONG") and "1.00e+00 >  1.00e-01" in second
