"""Changes between two results, for a terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from lightseg.benchmarks.results.changes import Change, Changes, summary

STYLE = {"faster": "green", "fewer": "green", "slower": "red", "more": "red", "undecided": "yellow"}


def changes_table(changes: Changes) -> Table:
    """Counts that are the same are left out; `lines` says how many."""
    table = Table(title="changed or noise", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("row", overflow="fold")
    table.add_column("what", no_wrap=True)
    for name in ("before", "after", "after / before", "noise"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("it is")
    for one in (one for one in changes.changes if one.answer != "same"):
        answer = Text(one.answer + (f": {one.why}" if one.why else ""), STYLE.get(one.answer, ""))
        ratio = f"{one.ratio:.3f}" if one.before else ""
        table.add_row(one.name, one.what, _number(one, one.before), _number(one, one.after), ratio, _noise(one), answer)
    return table


def lines(changes: Changes) -> list[str]:
    found = [summary(changes.changes)]
    found += [f"environment: {name} was {old}, is {new}" for name, (old, new) in changes.environment.items()]
    found += [f"only before: {name}" for name in changes.only_before]
    return found + [f"only after: {name}" for name in changes.only_after]


def _number(one: Change, value: float) -> str:
    return f"{value:.3g}" if one.what == "ms" else f"{value:,.0f}"


def _noise(one: Change) -> str:
    return f"± {one.noise:.1%}" if one.noise else ""
