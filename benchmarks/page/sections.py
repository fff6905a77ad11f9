"""Parts of the page that are put together from several results: the cards on top, masks, layers, further boundaries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightseg.benchmarks.page.layers import Panel, panel
from lightseg.benchmarks.page.plots import colour
from lightseg.benchmarks.page.view import Group, Line, View, score_of

SHOWN = ("import_and_load", "load", "first", "run", "run_cpu")
"""Boundaries that have a column in every table; whatever else a row holds gets one of its own."""


@dataclass(frozen=True)
class Card:
    """A network at a glance: its fastest form."""

    group: Group
    line: Line
    picture: str
    score: float | None
    css: str

    @property
    def taken(self) -> float:
        return self.group.judged(self.line)

    @property
    def gain(self) -> float | None:
        return self.group.gain(self.line)


def cards(shown: View) -> list[Card]:
    """One for every network, in the order of the rows."""
    return [_card(shown, group) for group in shown.groups]


def _card(shown: View, group: Group) -> Card:
    line, found = group.fastest, ""
    for row in shown.samples.get("rows", ()):
        if row["network"] == group.network and "cutout" in row and (not found or row["runtime"] in line.runtime):
            found = row["cutout"]
    score = score_of(shown, line)
    return Card(group, line, found, score[1] if score else None, colour(line.runtime))


def pictures(shown: View) -> list[tuple[str, list[tuple[list[str], Mapping[str, Any]]]]]:
    """By network, in order: the runtimes whose pictures are the same, and those pictures."""
    found: dict[str, dict[str, tuple[list[str], Mapping[str, Any]]]] = {}
    for row in shown.samples.get("rows", ()):
        if "mask" in row:
            precision = "" if row["precision"] in ("", "fp32") else f" {row['precision']}"
            same = found.setdefault(row["network"], {}).setdefault(row["mask"], ([], row))
            same[0].append(row["runtime"] + precision)
    return [(network, list(rows.values())) for network, rows in found.items()]


def unseen(shown: View) -> list[tuple[str, str]]:
    """Rows without a mask, and why."""
    rows = shown.samples.get("rows", ())
    return [(f"{row['network']}, {row['runtime']}", row["reason"]) for row in rows if "reason" in row]


def panels(shown: View) -> list[Panel]:
    return [found for file, profile in shown.layers.items() if (found := panel(file, profile))]


def unprofiled(shown: View) -> list[tuple[str, str]]:
    return [(file, profile["reason"]) for file, profile in shown.layers.items() if "reason" in profile]


def further(shown: View) -> list[str]:
    """Boundaries that some row has besides those that all have."""
    return list(dict.fromkeys(name for line in shown.lines for name in line.statistics if name not in SHOWN))
