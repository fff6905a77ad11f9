"""The page's numbers as CSV, one line per row and boundary, and as a Markdown table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from lightseg.benchmarks.page.plots import milliseconds
from lightseg.benchmarks.page.told import TIMES, Told
from lightseg.benchmarks.page.view import Line, View, score_of

STATISTICS = ("count", "median_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "min_ms", "mad_ms")
MISSING = "—"


def as_csv(shown: View) -> str:
    """Milliseconds, unrounded; an empty field where the samples do not support a percentile."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = ("network", "runtime", "input", "threads", "boundary", *STATISTICS, "interval_low_ms", "interval_high_ms")
    writer.writerow((*head, "verdict", "reasons", "file"))
    for line in shown.lines:
        for boundary, statistics in line.statistics.items():
            numbers = ["" if statistics[name] is None else statistics[name] for name in STATISTICS]
            ends = line.interval if boundary == "run" else ("", "")
            about = (line.network, line.runtime, "x".join(map(str, line.shape)), line.threads, boundary)
            writer.writerow((*about, *numbers, *ends, line.verdict, "; ".join(line.reasons), line.file))
    return out.getvalue()


def as_markdown(shown: View) -> str:
    """A table to paste; the numbers that are not PUBLISHABLE say so in their own column."""
    head = ["network", "runtime", "input", "threads", "p50 ms", "p90", "p99", "CPU p50", "verdict"]
    rows = [_cells(line) for line in shown.lines]
    if any(score_of(shown, line) for line in shown.lines):
        head.append("accuracy, %")
        rows = [[*cells, _score(shown, line)] for cells, line in zip(rows, shown.lines)]
    rule = [":--", ":--", *["--:"] * 6, ":--", *["--:"] * (len(head) - 9)]
    parts = [_table([head, rule, *rows])] if rows else []
    if shown.told:
        head = ["network", "runtime", "benchmark_model on", "threads", *(f"{name} ms" for name in TIMES), "verdict"]
        parts.append(_table([head, [*[":--"] * 3, *["--:"] * (len(TIMES) + 1), ":--"], *map(_told, shown.told)]))
    parts = parts or ["Nothing was timed."]
    return "\n\n".join([*parts, *([f"`{shown.command}`"] if shown.command else [])]) + "\n"


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _told(one: Told) -> list[str]:
    times = [MISSING if value is None else milliseconds(value) for value in one.times.values()]
    return [one.network, one.runtime, one.where, str(one.threads), *times, one.verdict]


def _cells(line: Line) -> list[str]:
    percentiles = [line.value("run", f"{name}_ms") for name in ("p90", "p99")]
    numbers = [line.p50, *percentiles, line.value("run_cpu", "median_ms")]
    shown = [MISSING if number is None else milliseconds(number) for number in numbers]
    return [line.network, line.runtime, line.size, str(line.threads), *shown, line.verdict]


def _score(shown: View, line: Line) -> str:
    score = score_of(shown, line)
    return MISSING if score is None else f"{score[1]:.2f}"
