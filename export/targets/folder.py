"""Artifacts of several files: one folder, so that halves of two exports cannot meet, with the record beside them."""

from __future__ import annotations

from pathlib import Path

from lightseg.errors import BadInput

RECORD = "lightseg.json"


def member(folder: Path, name: str) -> Path:
    """The file ``name`` of an artifact. Errors: `BadInput` where it is missing."""
    path = folder / name
    if not path.is_file():
        raise BadInput(f"{folder} has no {name}, which belongs to it; export it again")
    return path


def stamp(folder: Path, text: str) -> None:
    (folder / RECORD).write_text(text, encoding="utf-8")


def read_record(folder: Path) -> str | None:
    path = folder / RECORD
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is no text; export it again") from error
