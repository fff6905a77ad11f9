"""Emulated results for a terminal. No column is a time, and none may become one."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from lightseg.benchmarks.arm64.emulate import Emulated
from lightseg.benchmarks.results.tables import MISSING

NOTE = (
    "instructions retired by one inference, one thread, without the first; an emulator has no clock worth reading, "
    "so no milliseconds"
)


def emulated_table(rows: Sequence[Emulated]) -> Table:
    table = Table(title="ARM kernels, emulated", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("artifact", no_wrap=True)
    table.add_column("runtime", no_wrap=True)
    table.add_column("arithmetic", no_wrap=True)
    names = ["M instructions", "of them fma", "memory", "MACs / instruction", "error / largest logit", "pixels changed"]
    for name in names:
        table.add_column(name, justify="right", no_wrap=name == "pixels changed")
    table.add_column("equals PyTorch")
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: Emulated) -> list[str | Text]:
    counted, mix = row.instructions, row.instructions.mix or {}
    fma = mix["fma"] + mix.get("fma16", 0) if "fma" in mix else None
    error = row.relative_error
    verdict = Text("no", "red") if row.disagrees else Text("yes", "green") if row.parity else Text("not compared")
    return [
        row.name,
        f"{row.details['runtime']} {row.details['version']}",
        row.details.get("arithmetic", MISSING),
        f"{counted.count / 1e6:,.1f}",
        _share(fma, counted.count),
        _share(mix.get("memory"), counted.count),
        MISSING if row.macs is None else f"{row.macs / counted.count:.2f}",
        MISSING if error is None else f"{error:.1e}",
        f"{row.changed} of {row.pixels:,}" if row.parity else MISSING,
        verdict,
    ]


def notes(rows: Sequence[Emulated]) -> list[str]:
    lines = [f"{rows[0].instructions.counter}: {NOTE}"] if rows else []
    return lines + [f"{row.title}: {row.disagrees}" for row in rows if row.disagrees]


def _share(part: int | None, whole: int) -> str:
    return MISSING if part is None else f"{part / whole:.0%}"
