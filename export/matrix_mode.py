"""lightseg-export --matrix: the support table, cell by cell."""

from __future__ import annotations

import argparse
from collections.abc import Set
from dataclasses import asdict

from lightseg.cli import emit_json, say


def matrix(args: argparse.Namespace) -> int:
    """Blocked cells are an answer: the command fails only where it cannot ask."""
    from pathlib import Path

    from lightseg.errors import UnknownName
    from lightseg.export.parity import TOLERANCE
    from lightseg.export.support import run_matrix
    from lightseg.export.targets import TARGETS
    from lightseg.zoo import MODELS, create_model

    asked: list[list[str]] = []
    for kind, text, known in (
        ("model", args.model, MODELS), ("target", args.to, TARGETS), ("precision", args.precision, TOLERANCE),
    ):  # fmt: skip
        words = list(known) if text in (None, "all") else text.split(",")
        unknown = next((word for word in words if word not in known), None)
        if unknown is not None:
            raise UnknownName(kind, unknown, known)
        asked.append(words)
    for name in asked[0]:
        create_model(name)  # weights that are missing say nothing about a target
    models, targets, precisions = asked
    if "int8" in precisions:
        _check_photographs(args, {MODELS[name].task for name in models})
    int8 = {str(task): _int8_words(args, task) for task in dict.fromkeys(spec.task for spec in MODELS.values())}
    cells = run_matrix(Path(args.out), models, targets, precisions, lambda text: say(args, text), int8)
    counts = {status: sum(c.status == status for c in cells) for status in ("validated", "blocked", "not run")}
    say(args, f"{', '.join(f'{n} {status}' for status, n in counts.items())}: see {args.out}/support.md")
    emit_json(args.json, [asdict(cell) for cell in cells])
    return 0


def _check_photographs(args: argparse.Namespace, tasks: Set[str]) -> None:
    """Refuse here what every int8 cell would fail at: a slip of the pen is no evidence against a target.

    Errors: `BadInput` for folders that are missing, too small or overlap, and for options without them.
    """
    from pathlib import Path

    from lightseg.errors import BadInput
    from lightseg.export.quantization.calibration import COUNTS, gather

    if not args.calibration and (args.evaluation or args.max_drop is not None):
        raise BadInput("--evaluation and --max-drop belong to int8: add --calibration DIR")
    for task in sorted(tasks):
        calibration, evaluation = _folder(args.calibration, task), _folder(args.evaluation, task)
        if calibration:
            gather(Path(calibration), Path(evaluation) if evaluation else None, COUNTS[task])


def _int8_words(args: argparse.Namespace, task: str) -> list[str]:
    """The options of int8 for a command of its own; none where no photographs are given for ``task``."""
    given = {"--calibration": _folder(args.calibration, task), "--evaluation": _folder(args.evaluation, task)}
    if args.calibration and not given["--calibration"]:
        return []
    given["--max-drop"] = None if args.max_drop is None else str(args.max_drop)
    return [word for option, value in given.items() if value for word in (option, value)]


def _folder(text: str | None, task: str) -> str | None:
    """``text`` is one folder for all, or TASK=DIR[,TASK=DIR…]. Errors: `UnknownName` for a task nobody knows."""
    from lightseg.errors import UnknownName
    from lightseg.zoo import MODELS

    if not text or "=" not in text:
        return text
    named = {task: folder for task, _, folder in (part.partition("=") for part in text.split(","))}
    known = {spec.task: True for spec in MODELS.values()}
    unknown = next((word for word in named if word not in known), None)
    if unknown is not None:
        raise UnknownName("task", unknown, known)
    return named.get(task)
