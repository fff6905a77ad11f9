"""Writing files and folders so that nothing is ever half-written; what a path holds, whichever of the two it is."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightseg.errors import OutputError


@contextmanager
def atomic_path(path: Path, folder: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block ends well; with ``folder``, an empty folder.

    On any error the temporary file goes and ``path`` stays as it was. Operating-system errors (no space, read-only
    folder) become `OutputError`. No system replaces a folder in one step: for an instant between two renames the old
    one stands beside ``path`` under a hidden name, whole. A link stays, and what it names is replaced; a device or a
    pipe cannot be replaced and is written to.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        yield from _straight(path)
        return
    if path.is_symlink():
        path = path.resolve()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(path, folder)
    except OSError as error:
        raise OutputError(f"cannot write to {path.parent} ({error.strerror}); choose another --out DIR") from error
    try:
        yield temporary
        _settle(temporary)
        _replace(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror}); what was there before is untouched") from error
    finally:
        remove(temporary)


def _straight(path: Path) -> Iterator[Path]:
    try:
        yield path
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror})") from error


def require_folder(path: Path, option: str) -> None:
    """Make the folder now, before the work whose result goes there. Errors: `OutputError` naming ``option``."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write to {path} ({error.strerror}); choose another {option}") from error


def files_in(path: Path) -> list[Path]:
    """``path`` itself, or every file below it, in an order that depends on names alone."""
    if not path.is_dir():
        return [path]
    return sorted((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.relative_to(path).as_posix())


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return sum(p.stat().st_size for p in files_in(path))


def sha256_of(path: Path) -> str:
    """Of a file's bytes; of a folder, over the relative path, size and bytes of every file in it."""
    if not path.is_dir():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for file in files_in(path):
        data = file.read_bytes()
        digest.update(f"{file.relative_to(path).as_posix()}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def copy_to(source: Path, target: Path) -> None:
    """Fill ``target``, as `atomic_path` gave it, with the bytes of ``source``."""
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        target.write_bytes(source.read_bytes())


def remove(path: Path) -> None:
    """A file or a folder with all that is in it; nothing happens where there is neither."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _beside(path: Path, folder: bool) -> Path:
    prefix = f".{path.stem}-"
    if folder:
        return Path(tempfile.mkdtemp(prefix=prefix, suffix=path.suffix, dir=path.parent))
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    return Path(name)


def _replace(temporary: Path, path: Path) -> None:
    """Rename; a folder that is in the way steps aside first and comes back if that fails."""
    if not (temporary.is_dir() and path.is_dir()):
        temporary.replace(path)
        return
    aside = _beside(path, folder=True)
    try:
        path.replace(aside)
    except OSError:
        remove(aside)
        raise
    try:
        temporary.replace(path)
    except OSError:
        aside.replace(path)
        raise
    remove(aside)


def _settle(path: Path) -> None:
    """On the disk, and readable by whom the user's mask allows."""
    mask = _umask()
    for file in files_in(path):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
        file.chmod(0o666 & ~mask)
    if path.is_dir():
        for folder in (path, *(p for p in path.rglob("*") if p.is_dir())):
            folder.chmod(0o777 & ~mask)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
