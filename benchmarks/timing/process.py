"""The parent's end of a measured process: start it, ask, sleep on the pipe, and turn its death into one line."""

from __future__ import annotations

import contextlib
import json
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Any, Protocol

from lightseg.benchmarks.timing.environment import thread_environment
from lightseg.errors import LightsegError

COMMAND = (sys.executable, "-m", "lightseg.benchmarks.timing.child")
TIMEOUT_SECONDS = 1800.0


class Failed(LightsegError):
    """A measured process could not do what it was asked; the row is lost, the others are not."""


class Asked(Protocol):
    """What answers the requests of `lightseg.benchmarks.timing.child`, wherever it runs."""

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """One request and its answer. Errors: `Failed`."""


class Lost(Failed):
    """What rows are measured on is gone; the row is lost, and so are those that were to follow."""


class Child:
    """A measured process as a context manager; at the end it is closed, or killed if it does not answer."""

    offers = ("goldens", "transfer", "image_to_mask", "energy", "memory")
    """What it can do beyond opening, warming up and sampling."""

    def __init__(self, threads: int, command: Sequence[str] = COMMAND, timeout: float = TIMEOUT_SECONDS) -> None:
        self.timeout = timeout
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__)
        self.process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            encoding="utf-8",
            env=thread_environment(threads),
        )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """One request and its answer, asleep in between. Errors: `Failed` with the child's or the system's reason."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # the empty answer below tells why
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], self.timeout)[0]:
            raise Failed(f"no answer to {do!r} within {self.timeout:.0f} s; the measured process was ended")
        line = self.process.stdout.readline()
        if not line:
            raise self._death()
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            raise Failed(f"the measured process answered {do!r} with no JSON: {line.strip()[:80]}") from None
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def said(self) -> str:
        """All that came on standard error so far."""
        self.errors.seek(0)
        return self.errors.read().decode("utf-8", "replace")

    def _death(self) -> Failed:
        code = self.process.wait(timeout=10)
        said = [line.strip() for line in self.said().splitlines() if line.strip()]
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return Failed(f"the measured process {how}" + (f": {said[-1]}" if said else ""))

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=0.0 if kind else 10.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()
