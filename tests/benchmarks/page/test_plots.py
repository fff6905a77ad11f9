"""Ceilings, ticks, labels and bars."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lightseg.benchmarks.page import plots
from lightseg.benchmarks.page.render import as_html
from lightseg.benchmarks.page.view import View, view

pytest.importorskip("jinja2", reason="the page needs the extra report")


def test_the_roofline_puts_a_row_under_its_ceilings(result: dict[str, Any]) -> None:
    result["ceilings"] = {"macs_per_second": 80e9, "bytes_per_second": 10e9, "how": "x"}
    result["costs"] = {"sinet-clova-fp32.tflite": {"macs": 64_000_000, "bytes_moved": 30_000_000}}
    html = as_html(view([result]))
    assert "matrix product: 80.0 GMAC/s" in html and "copy: 10.0 GB/s" in html
    assert "Against this machine's limits" not in as_html(view([{**result, "ceilings": None}]))


@pytest.mark.parametrize(("low", "high"), [(0.9, 1.1), (3, 60), (0.5, 900), (0.001, 5000), (99.9, 100.1)])
def test_ticks_lie_inside_and_are_few(low: float, high: float) -> None:
    ticks = plots.log_ticks(low, high)
    assert 1 <= len(ticks) <= 9
    assert all(low <= tick <= high for tick in ticks)
    assert all(low <= tick <= high for tick in plots.linear_ticks(low, high))
    assert len(plots.linear_ticks(low, high)) <= 7


def test_labels_do_not_lie_on_each_other() -> None:
    placed = plots.spread([10, 11, 12, 200], apart=15)
    assert placed == [10, 25, 40, 200]


def test_bars_begin_at_zero_and_stay_in_the_picture(page: View) -> None:
    widths = [float(w) for w in re.findall(r'<rect[^>]* width="([\d.]+)"', plots.bars(page.groups[0]))]
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.01)
    assert max(widths) < plots.WIDTH - plots.LEFT
