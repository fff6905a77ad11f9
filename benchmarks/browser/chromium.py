"""The browser itself: where it is, how it is started without a window, what it used, and how it ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from lightseg.benchmarks.timing.environment import UNREADABLE
from lightseg.errors import BadInput, Unsupported

VARIABLE = "LIGHTSEG_CHROMIUM"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PLACES = ("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",)
OPTIONS = (
    "--headless",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-gpu",
    # Nothing that is not the page: no updates, no reports, no connections of its own.
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-crash-reporter",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--metrics-recording-only",
    # A page nobody looks at is otherwise slowed down.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
)
PIN = """
import os, sys
cores = [int(core) for core in sys.argv[1].split(",") if core]
if cores and hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, cores)
os.execvp(sys.argv[2], sys.argv[2:])
"""
"""Run in a fresh interpreter: every process and thread of the browser inherits the cores."""


def find(named: Path | None = None) -> Path:
    """The browser's program: ``named``, else ``$LIGHTSEG_CHROMIUM``, else the first of `NAMES` on the path.

    Errors: `BadInput` when a named one is no program, `Unsupported` when there is none.
    """
    text = os.environ.get(VARIABLE) if named is None else str(named)
    if text:
        found = shutil.which(text)
        if found is None:
            raise BadInput(f"{text} is no program that can be run; name Chromium with --chromium FILE or ${VARIABLE}")
        return Path(found)
    candidates = [found for name in (*NAMES, *PLACES) if (found := shutil.which(name))]
    if not candidates:
        raise Unsupported(
            "no Chromium or Chrome found; install it (apt-get install chromium) or name it with --chromium FILE "
            f"or ${VARIABLE}"
        )
    return Path(candidates[0])


def version(program: Path) -> str:
    """What it calls itself; "not readable" where it does not answer."""
    try:
        done = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return UNREADABLE
    return done.stdout.strip() or UNREADABLE


def sandbox_options() -> list[str]:
    """Chromium's sandbox refuses to start for root; what runs here is this package's own page, from this machine."""
    return ["--no-sandbox"] if hasattr(os, "getuid") and os.getuid() == 0 else []


class Browser:
    """A Chromium with an empty profile that shows one page, as a context manager; at the end all of it is gone.

    ``ended`` is called with one line when it ends before that.
    """

    def __init__(
        self,
        program: Path,
        url: str,
        cores: Sequence[int] = (),
        ended: Callable[[str], None] = lambda line: None,
        options: Sequence[str] = (),
    ) -> None:
        self.profile = tempfile.mkdtemp(prefix="lightseg-chromium-")
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__)
        arguments = [*OPTIONS, *sandbox_options(), f"--user-data-dir={self.profile}", *options, url]
        pinned = ",".join(map(str, cores))
        self.process = subprocess.Popen(
            [sys.executable, "-c", PIN, pinned, str(program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.errors,
            start_new_session=True,  # one group, which can be ended as a whole
        )
        self._ended, self._closing = ended, False
        self._waiter = threading.Thread(target=self._wait, daemon=True)
        self._waiter.start()

    def _wait(self) -> None:
        code = self.process.wait()
        if not self._closing:
            self._ended(self._death(code))

    def ended_within(self, seconds: float) -> bool:
        """Whether it has ended, or does while we wait."""
        self._waiter.join(seconds)
        return not self._waiter.is_alive()

    def _death(self, code: int) -> str:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        said = self.said()
        return f"the browser {how}" + (f": {said}" if said else "")

    def said(self) -> str:
        """Its last word on standard error, other than that there is no desktop around it."""
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors.read().decode("utf-8", "replace").splitlines()]
        lines = [line for line in lines if line and "dbus/" not in line]
        return lines[-1][:300] if lines else ""

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closing = True
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        self._waiter.join(5)
        self.errors.close()
        shutil.rmtree(self.profile, ignore_errors=True)


def descendants(pid: int) -> list[int]:
    """All processes below ``pid``; empty where the system does not tell."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(status.parent.name))
    found, rest = list[int](), [pid]
    while rest:
        below = children.get(rest.pop(), [])
        found += below
        rest += below
    return found


def pages(pid: int) -> list[int]:
    """The processes below ``pid`` that show pages; a page's own thread has its process's number."""
    return [one for one in descendants(pid) if b"--type=renderer" in _bytes(f"/proc/{one}/cmdline")]


def page_times(pid: int) -> dict[int, int]:
    """Processor time of the main thread of every page below ``pid``, in nanoseconds."""
    times = {}
    for one in pages(pid):
        fields = _bytes(f"/proc/{one}/task/{one}/schedstat").split()
        if fields:
            times[one] = int(fields[0])
    return times


def page_memory(pid: int) -> int | None:
    """The largest resident size a page below ``pid`` has had, in bytes, JavaScript and runtime included."""
    sizes = [_peak(_bytes(f"/proc/{one}/status").decode("ascii", "replace")) for one in pages(pid)]
    return max(sizes, default=0) or None


def _peak(status: str) -> int:
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""
