"""Going on with a run that was interrupted: rows that its file holds are taken from there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightseg.benchmarks.timing.latency import Protocol
from lightseg.benchmarks.timing.measure import Process, Row
from lightseg.benchmarks.timing.subject import Subject
from lightseg.errors import BadInput

SAME = ("cpu", "flags", "system", "python", "versions", "gpu")
"""Parts of the environment that rows of one result must share, or that none has."""
Key = tuple[Any, ...]


def earlier(path: Path, environment: dict[str, Any]) -> tuple[dict[Key, Row], list[dict[str, Any]]]:
    """The rows in the result at ``path`` by their `key`, and the environment of every run that gave some of them.

    A file that does not exist yet holds none. Errors: `BadInput` for one that is no result of timing, or was measured
    on another machine or with other versions than ``environment`` has.
    """
    if not path.exists():
        return {}, []
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        runs = [data["environment"], *data.get("resumed", [])]
        rows = [row_from_dict(row) for row in data["rows"]]
        moved = [name for name in SAME if data["environment"].get(name) != environment.get(name)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"--resume: {path} is no result of timing ({type(error).__name__}: {error})") from error
    if moved:
        raise BadInput(f"--resume: {path} was measured with another {', '.join(moved)}; name a new file")
    return {key(row.subject, row.cores, row.protocol): row for row in rows}, runs


def key(subject: Subject, cores: Sequence[int], protocol: Protocol) -> Key:
    """What makes two rows the same measurement; where the file lies and which cores were quiet is not part of it."""
    about = (subject.label, subject.runtime, subject.shape, subject.precision, subject.sha256, subject.weights)
    return (*about, subject.device, len(cores), protocol)


def row_from_dict(data: dict[str, Any]) -> Row:
    """The inverse of `Row.to_dict`."""
    processes = ({**one, "load_average": tuple(one["load_average"])} for one in data["processes"])
    return Row(
        Subject.from_dict(data["subject"]),
        data["threads"],
        tuple(data["cores"]),
        Protocol(**data["protocol"]),
        tuple(Process(**one) for one in processes),
        data["memory"],
    )
