"""The support matrix as a Markdown page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightseg.export.support import Cell

HEAD = """\
# Support matrix

Made by `lightseg-export --matrix --out docs`, one process per cell, from the results in `support.json`, by no hand.
A cell that was exported, run and compared with PyTorch float64 at the model's published size says: largest error on any
probe as a share of the largest logit; share of pixels that keep their class; size of the file. Blocked cells have their
reasons below. A test fails when the code that decides a cell has changed since it was run (see `export/deciders.py`).
"""


def markdown(cells: Sequence[Cell]) -> str:
    """The page: the table, the reasons, and what ran."""
    reasons: dict[str, int] = {}
    targets = list(dict.fromkeys(cell.target for cell in cells))
    rows = list(dict.fromkeys((cell.model, cell.precision) for cell in cells))
    by_key = {cell.key: cell for cell in cells}
    lines = [_row(["model", "precision", *targets]), _row(["---"] * (2 + len(targets)))]
    for model, precision in rows:
        shown = [_shown(by_key[model, target, precision], reasons) for target in targets]
        lines.append(_row([f"`{model}`", precision, *shown]))
    return "\n".join([HEAD, *lines, "", *_reasons(reasons), *_ran(cells, targets), ""])


def _row(fields: Sequence[str]) -> str:
    return f"| {' | '.join(fields)} |"


def _shown(cell: Cell, reasons: dict[str, int]) -> str:
    if cell.relative_error is not None and cell.agreement is not None:
        return f"validated: {cell.relative_error:.1e}, {100 * cell.agreement:.4f} %, {cell.kilobytes:.0f} kB"
    if not cell.reason:
        return cell.status
    number = reasons.setdefault(cell.reason, len(reasons) + 1)
    return f"{cell.status} ({number})"


def _reasons(reasons: dict[str, int]) -> list[str]:
    return [f"{number}. {reason}" for reason, number in reasons.items()] + [""] * bool(reasons)


def _ran(cells: Sequence[Cell], targets: Sequence[str]) -> list[str]:
    """Per target what ran the files, and the state of the code that decided."""
    lines = [_row(["target", "run by", "packages", "code"]), _row(["---"] * 4)]
    for target in targets:
        mine = [cell for cell in cells if cell.target == target and cell.versions]
        runs = dict.fromkeys(f"{cell.runner['runtime']} {cell.runner['version']}" for cell in mine)
        packages = dict.fromkeys(", ".join(f"{k} {v}" for k, v in sorted(cell.versions.items())) for cell in mine)
        codes = dict.fromkeys(cell.code for cell in cells if cell.target == target and cell.code)
        if mine:
            lines.append(_row([target, "; ".join(runs), "; ".join(packages), ", ".join(codes)]))
    return lines if len(lines) > 2 else []
