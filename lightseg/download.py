"""Fetching one file: with progress, resumed after a break, checked before it counts."""

from __future__ import annotations

import hashlib
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from lightseg.errors import OutputError, WeightsError

CHUNK = 1 << 16


def download(url: str, target: Path, sha256: str, timeout: float = 20) -> Path:
    """Fetch ``url`` to ``target``; a broken transfer leaves ``target.part``, which the next call continues.

    Errors: `WeightsError` when the server cannot be reached or the content has another hash, `OutputError` when the
    folder cannot be written.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part, timeout)
    except (urllib.error.URLError, TimeoutError, ConnectionError, HTTPException) as error:
        raise WeightsError(f"the download failed ({getattr(error, 'reason', None) or error})") from error
    except OSError as error:
        raise OutputError(f"{target.parent} cannot be written ({error.strerror})") from error
    if hashlib.sha256(part.read_bytes()).hexdigest() != sha256:
        part.unlink()
        raise WeightsError("the downloaded file has the wrong sha256")
    part.replace(target)
    return target


def _fetch(url: str, part: Path, timeout: float) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing is left to fetch: the part is complete, or longer than the file
            return
        raise
    with response:
        resumed = response.status == 206
        total = int(response.headers.get("Content-Length") or 0) + (have if resumed else 0)
        with part.open("ab" if resumed else "wb") as file, _progress(url, total) as advance:
            advance(have if resumed else 0)
            while chunk := response.read(CHUNK):
                file.write(chunk)
                advance(len(chunk))
    have = part.stat().st_size
    if have < total:  # a short answer is no error to urllib
        raise ConnectionError(f"the connection broke after {have} of {total} bytes; run again to continue")


@contextmanager
def _progress(url: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on the terminal, silent where standard error is none."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("downloading {task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(url.rsplit("/", 1)[-1], total=total or None)
        yield lambda size: bar.advance(task, size)
