"""What a browser's answers were worth and what really ran, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from lightseg.benchmarks.results.tables import MISSING
from lightseg.benchmarks.timing.measure import Row


def parity_table(rows: Sequence[Row]) -> Table:
    """The golden outputs repeated in the browser: the worst of all goldens and processes; and what really ran.

    The processor time is the mean of the timed runs, of the page's main thread, where no other thread works for it.
    """
    table = Table(title="answers in the browser", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("model", "runtime", "WebAssembly"):
        table.add_column(name, no_wrap=True)
    for name in ("threads", "CPU ms", "error/top logit", "of allowed", "pixels changed"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("equals PyTorch")
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> list[str | Text]:
    details = row.details
    return [
        row.subject.label,
        f"{row.subject.runtime} {details['version']}",
        details["wasm"].replace(".wasm", ""),
        details["threads"],
        _processor_time(row),
        *_figures([one for process in row.processes for one in process.goldens.get("checked", ())], len(row.processes)),
        _verdict(row),
    ]


def _processor_time(row: Row) -> str:
    spent = [process.sampled["cpu_ns"] for process in row.processes]
    if row.threads > 1 or None in spent:
        return MISSING
    return f"{sum(spent) / row.run.count / 1e6:.1f}"


def _figures(checked: Sequence[dict[str, Any]], processes: int) -> list[str]:
    if not checked:
        return [MISSING] * 3
    error = max(one["max_error"] / one["largest"] for one in checked)
    share = max(one["max_error"] / one["allowed"] if one["allowed"] else 0.0 for one in checked)
    changed, pixels = (sum(one[key] for one in checked) // processes for key in ("flips", "pixels"))
    return [f"{error:.1e}", f"{share:.1%}", f"{changed} of {pixels:,}"]


def _verdict(row: Row) -> Text:
    if any(process.goldens.get("wrong") for process in row.processes):
        return Text("no", "red")
    return Text("yes", "green") if row.subject.proof else Text("not compared")
