"""Counters and budgets for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from lightseg.benchmarks.counting.counters import COUNTERS, Counters
from lightseg.benchmarks.results.tables import MISSING

TITLES = {
    "params": "params",
    "macs": "MACs",
    "operators": "operators",
    "layout": "layout operators",
    "casts": "casts",
    "partitions": "delegate partitions",
    "artifact_bytes": "artifact bytes",
    "peak_tensor_bytes": "peak tensor bytes",
    "instructions": "instructions, x86-64",
    "instructions_arm64": "instructions, arm64",
}


def counters_table(counters: Sequence[Counters]) -> Table:
    """One column per artifact, one line per counter; reasons for missing ones stand in `counter_notes`."""
    table = Table(title="counted, exact", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("")
    for one in counters:
        table.add_column(one.name, justify="right", overflow="fold")
    for name in rows(counters):
        table.add_row(title(name), *(_cell(one, name) for one in counters))
    return table


def counter_notes(counters: Sequence[Counters]) -> list[str]:
    """What ran and counted, and why a counter is missing."""
    lines = []
    for one in counters:
        runtime = " ".join(one.details[key] for key in ("runtime", "version") if key in one.details)
        counter = f"; instructions by {one.details['counter']}" if "counter" in one.details else ""
        spread = f", between inferences {one.details['spread']}" if "spread" in one.details else ""
        lines.append(f"{one.name}: {runtime}{counter}{spread}")
        lines += [f"{one.name}: {title(name).strip()} {reason}" for name, reason in one.missing.items()]
    return lines


def rows(counters: Sequence[Counters]) -> list[str]:
    """The counters that any artifact has or misses, operator kinds under their sum."""
    present = {name for one in counters for name in (*one.counts, *one.missing)}
    order = list(COUNTERS)
    return sorted(present, key=lambda name: (order.index(name.split(".")[0]), name))


def title(name: str) -> str:
    return f"  {name.removeprefix('operators.')}" if name.startswith("operators.") else TITLES[name]


def _cell(one: Counters, name: str) -> str:
    if name in one.missing:
        return MISSING
    return f"{one.counts.get(name, 0):,}"
