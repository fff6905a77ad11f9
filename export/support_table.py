"""The support matrix as a Markdown page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightseg.export.support import Cell

HEAD = """\
# Support matrix

Made by `lightseg-export --matrix --out docs`, one process per cell, from the results in `support.json`, by no hand.
A cell that was exported, run and compared with PyTorch float64 at the model's published size says: largest error on any
probe as a share of the largest logit; share of pixels that keep their class; size of the file. Blocked cells have their
reasons below. An int8 file is compared with its own simulation in floating point; what its masks lose against those of
float32 stands beside. A test fails when the code that decides a cell has changed since it was run (see
`export/deciders.py`).
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
        told = f"validated: {cell.relative_error:.1e}, {100 * cell.agreement:.4f} %, {cell.kilobytes:.0f} kB"
        return told + (f", {_int8(cell.quantization)}" if cell.quantization else "")
    if not cell.reason:
        return cell.status
    number = reasons.setdefault(cell.reason, len(reasons) + 1)
    return f"{cell.status} ({number})"


def _int8(found: Mapping[str, Any]) -> str:
    loss = found["task_loss"]
    lost = loss["float32"] - loss["int8"]
    convolutions = found["int8_layers"] + found["float_layers"]
    work = f" ({100 * found['int8_macs']:.0f} % of their work)"
    alike = loss.get("alike")
    own = "" if alike is None else f", {alike:.2f} against float32's own masks"
    return (
        f"{found['int8_layers']} of {convolutions} convolutions{work} in int8, {lost:.2f} points of {loss['metric']} "
        f"lost against {loss['against']} on {loss['images']} images{own}"
    )


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
