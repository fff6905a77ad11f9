"""The support matrix, from evidence: every model, target and precision exported and proven in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lightseg.errors import BadInput
from lightseg.export.deciders import code_hash
from lightseg.export.parity import TOLERANCE
from lightseg.export.targets import TARGETS, find_target
from lightseg.files import atomic_path, size_of
from lightseg.zoo import MODELS

FORMAT = 1
RESULTS, TABLE = "support.json", "support.md"
LIMIT = 3600
"""Seconds one cell may take."""
OWN = "lightseg-export: "
"""How the command begins its line of what failed."""
VALIDATED, BLOCKED, NOT_RUN = "validated", "blocked", "not run"


@dataclass(frozen=True)
class Cell:
    """One model, target and precision, and what came of it."""

    model: str
    target: str
    precision: str
    status: str = NOT_RUN
    reason: str = ""
    """Why it is blocked, or was not run: the command's own words."""
    code: str = ""
    """`code_hash` of the target when it was decided."""
    weights: str = ""
    """sha256 of the weights that were exported; empty where nothing was."""
    relative_error: float | None = None
    """Largest error on any probe, as a share of the largest logit."""
    agreement: float | None = None
    """Share of all probes' pixels that keep their class."""
    kilobytes: float | None = None
    seconds: float | None = None
    """Wall time of the process, with the imports and the reference."""
    quantization: dict[str, Any] | None = None
    """Of int8: how many layers are int8, how many float, and the task loss."""
    runner: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str]:
        return self.model, self.target, self.precision

    @property
    def decided(self) -> bool:
        return self.status != NOT_RUN

    @property
    def old(self) -> bool:
        """Whether the code that decides, or the model's default weights, have changed since."""
        other = self.weights not in ("", MODELS[self.model].weights[0].sha256)
        return self.decided and (other or self.code != code_hash(self.target, self.precision))


def all_cells() -> list[Cell]:
    return [Cell(model, target, precision) for model in MODELS for target in TARGETS for precision in TOLERANCE]


def read_cells(folder: Path) -> list[Cell]:
    """The results in ``folder``, in the order of the tables; what is not there was not run. Errors: `BadInput`."""
    path = folder / RESULTS
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else json.dumps({"format": FORMAT, "cells": []})
        data: dict[str, Any] = json.loads(text)
        if data["format"] != FORMAT:
            raise BadInput(f"{path} has format {data['format']}, this version reads {FORMAT}; delete it and run again")
        stored = {cell.key: cell for cell in (Cell(**row) for row in data["cells"])}
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is damaged ({type(error).__name__}: {error}); delete it and run again") from error
    return [stored.get(cell.key, cell) for cell in all_cells()]


def write_cells(folder: Path, cells: Iterable[Cell]) -> None:
    """The results and the table made of them. Errors: `OutputError`."""
    from lightseg.export.support_table import markdown

    kept = list(cells)
    rows = [asdict(cell) for cell in kept if cell.decided or cell.reason]
    for name, text in (
        (RESULTS, json.dumps({"format": FORMAT, "cells": rows}, indent=1, ensure_ascii=False) + "\n"),
        (TABLE, markdown(kept)),
    ):
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def run_matrix(
    folder: Path,
    models: Sequence[str],
    targets: Sequence[str],
    precisions: Sequence[str],
    tell: Callable[[str], None] = lambda text: None,
    int8: Mapping[str, Sequence[str]] | None = None,
) -> list[Cell]:
    """Decide every cell asked for that is not decided by the present code; ``folder`` is written after each.

    ``int8`` has by task the words of lightseg-export that name the photographs; without them no int8 cell is run.

    Errors: `UnknownName` for words nobody knows; `BadInput` for damaged results.
    """
    cells = {cell.key: cell for cell in read_cells(folder)}
    for cell in list(cells.values()):
        asked = cell.model in models and cell.target in targets and cell.precision in precisions
        if asked and (not cell.decided or cell.old):
            tell(f"{cell.model} {cell.target} {cell.precision}")
            cells[cell.key] = decide(Cell(*cell.key), (int8 or {}).get(MODELS[cell.model].task, ()))
            write_cells(folder, cells.values())
    write_cells(folder, cells.values())
    return list(cells.values())


def decide(cell: Cell, int8: Sequence[str] = ()) -> Cell:
    """Export the cell in a process of its own, where there is anything to run."""
    target = find_target(cell.target)
    missing = target.why_not_convert() or target.why_not_load()
    if cell.precision not in target.precisions:
        reason = f"{target.name} is written in {', '.join(target.precisions)} only"
        return replace(cell, status=BLOCKED, reason=reason, code=code_hash(target.name, cell.precision))
    if missing:
        return replace(cell, reason=missing)
    if cell.precision == "int8" and not int8:
        return replace(cell, reason="int8 is found with photographs: --calibration DIR")
    with tempfile.TemporaryDirectory() as folder:
        return _exported(cell, Path(folder), int8 if cell.precision == "int8" else ())


def _exported(cell: Cell, folder: Path, more: Sequence[str]) -> Cell:
    code, start = code_hash(cell.target, cell.precision), time.perf_counter()
    cell = replace(cell, weights=MODELS[cell.model].weights[0].sha256)
    command = [sys.executable, "-m", "lightseg.export.cli", "--model", cell.model, "--to", cell.target]
    command += ["--precision", cell.precision, "--out", str(folder), "--json", str(folder / "record.json"), *more]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return replace(cell, status=BLOCKED, reason=f"not done after {LIMIT} s", code=code)
    seconds = round(time.perf_counter() - start, 1)
    if done.returncode != 0:
        return replace(cell, status=BLOCKED, reason=_reason(done), code=code, seconds=seconds)
    (record,) = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    return replace(
        cell,
        status=VALIDATED,
        code=code,
        relative_error=record["parity"]["relative_error"],
        agreement=record["parity"]["agreement"],
        kilobytes=round(size_of(Path(record["path"])) / 1000),
        seconds=seconds,
        quantization=_summary(record["quantization"]),
        runner=record["parity"]["runner"],
        versions=record["versions"],
    )


def _summary(record: dict[str, Any] | None) -> dict[str, Any] | None:
    """What of an int8 record is worth a cell: neither hashes nor names of layers."""
    if record is None:
        return None
    return {
        "int8_layers": record["int8_layers"],
        "float_layers": len(record["float_layers"]),
        "int8_macs": record["int8_macs"],
        "task_loss": record["task_loss"],
        "calibration_images": record["calibration"]["images"]["ranges"],
    }


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """The command's own line; a crash, which Python ends with status 1 too, says so."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    last = lines[-1] if lines else "without a word"
    own = done.returncode == 1 and last.startswith(OWN)
    return last.removeprefix(OWN) if own else f"crashed, exit status {done.returncode}: {last}"
