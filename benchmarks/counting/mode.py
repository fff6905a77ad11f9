"""The modes without a clock: exact counts, budgets, and the emulated ARM processor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightseg.benchmarks.counting.budget import Budget, read_budget
from lightseg.benchmarks.counting.counters import Counters, count_all
from lightseg.benchmarks.counting.tables import counter_notes, counters_table

if TYPE_CHECKING:
    from rich.console import Console

Announce = Callable[[str], None]


def count(
    paths: Sequence[Path],
    device: str,
    budget: Path | None,
    write: Path | None,
    console: Console,
    announce: Announce,
    instructions: bool = True,
) -> tuple[dict[str, Any], list[str]]:
    """Print the counts of ``paths``; return them as data, with the breaches of ``budget``.

    The file ``write`` is made or updated. Errors: `BadInput`, `OutputError`, and those of `count_artifact`.
    """
    limits = None if budget is None else read_budget(budget)  # before the counting, which takes its time
    earlier = read_budget(write) if write is not None and write.exists() else Budget()
    counters = count_all(paths, announce, instructions=instructions, **_counter(device))
    show(counters, console)
    breaches = [] if limits is None else limits.breaches(counters)
    if limits is not None and not breaches:
        skipped = "".join(f"; {name} not checked on this --device" for name in limits.unchecked(counters))
        announce(f"within {budget}: {', '.join(one.name for one in counters)}{skipped}")
    if write is not None:
        earlier.with_counts(counters).save(write)
        announce(f"wrote {write}")
    return {"kind": "counted", "artifacts": [one.to_dict() for one in counters]}, breaches


def _counter(device: str) -> dict[str, Any]:
    """Who counts instructions: valgrind, or the emulator."""
    if device != "arm64":
        return {}
    from lightseg.benchmarks.arm64.emulate import count_emulated

    return {"counted": "instructions_arm64", "count": count_emulated(ready_root())}


def ready_root() -> Any:
    """Errors: `Unsupported` where nothing can be emulated yet."""
    from lightseg.benchmarks.arm64.root import default_root, require

    root = default_root()
    require(root)
    return root


def show(counters: Sequence[Counters], console: Console) -> None:
    console.print(counters_table(counters))
    for line in counter_notes(counters):
        console.print(line, highlight=False, markup=False)


def set_up(announce: Announce) -> dict[str, Any]:
    """Download and build what ``--device arm64`` needs; return what is there then."""
    from lightseg.benchmarks.arm64.build import build
    from lightseg.benchmarks.arm64.root import default_root

    root = default_root()
    build(root, announce)
    return {"folder": str(root.folder), **root.facts}


def emulated(paths: Sequence[Path], console: Console, announce: Announce) -> tuple[dict[str, Any], list[str]]:
    """Print agreement and instruction counts on the emulated ARM processor; return them, and a line per failure."""
    from lightseg.benchmarks.arm64.emulate import emulate_all
    from lightseg.benchmarks.arm64.table import emulated_table, notes

    root = ready_root()
    rows, failed = emulate_all(root, list(paths), announce)
    if rows:
        console.print(emulated_table(rows))
    for line in notes(rows):
        console.print(line, highlight=False, markup=False)
    problems = [f"{name} failed: {reason}" for name, reason in failed.items()]
    problems += [f"{row.title} does not equal PyTorch on this processor" for row in rows if row.disagrees]
    data = {"kind": "emulated", "root": root.facts, "rows": [row.to_dict() for row in rows], "failed": failed}
    return data, problems
