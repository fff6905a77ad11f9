"""What ``benchmark_model`` told, for a terminal; in a table of its own, since it is another protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from lightseg.benchmarks.remote.benchmark_model import Summary, middle
from lightseg.benchmarks.results.tables import MISSING


def summary_table(rows: Sequence[Summary]) -> Table:
    """Milliseconds, medians over processes."""
    title = "told by benchmark_model, milliseconds: its own protocol, one image, no raw samples"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("model", "runtime"):
        table.add_column(name, no_wrap=True)
    for name in ("threads", "init", "first", "median", "average", "p95", "min", "runs", "throttling"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: Summary) -> list[str | Text]:
    values = [
        middle([getattr(one, name) for one in row.told])
        for name in ("init", "first", "median", "average", "p95", "minimum")
    ]
    states = list(dict.fromkeys(state for one in row.told for state in one.thermal))
    return [
        row.subject.label,
        row.subject.runtime,
        str(row.threads),
        *(MISSING if value is None else f"{value / 1e3:.3g}" for value in values),
        str(sum(one.count for one in row.told)),
        " to ".join(states),
        Text(row.verdict, "red" if row.wrong else "yellow"),
    ]


def notes(rows: Sequence[Summary]) -> list[str]:
    lines = [f"{row.subject.name}: {row.verdict}, {'; '.join(row.reasons)}" for row in rows if row.reasons]
    lines += [f"{row.subject.name}: {row.told[0].delegate}" for row in rows if row.told]
    return lines


def phone_line(facts: Mapping[str, Any]) -> str:
    heat = facts.get("battery", {}).get("temperature", "")
    warm = f", battery at {int(heat) / 10:.1f} °C" if str(heat).isdigit() else ""
    return (
        f"{facts['device']}: {facts['phone']}, {facts['cpu']}, Android {facts['android']}, "
        f"governor {facts['governor']}, throttling {facts['thermal']}{warm}"
    )
