"""Retired instructions of one inference, counted by valgrind around the artifact's own runtime.

A count hardly moves from run to run, so that a rise of a percent is a fact and not noise. It is not a time: callgrind
runs x86 kernels of AVX2 at most, and says nothing about caches or about another processor.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lightseg.benchmarks.timing.process import Child, Failed
from lightseg.errors import Unsupported

if TYPE_CHECKING:
    from numpy.typing import NDArray

RUNS = 3
COUNTED_MODULE = "lightseg.benchmarks.counting.counted"


@dataclass(frozen=True)
class Instructions:
    """``samples`` are the instructions of several inferences of one input; what the marks cost is taken off."""

    samples: tuple[int, ...]
    counter: str
    """Who counted, and what processor it showed the runtime."""
    mix: dict[str, int] | None = None
    """Of the smallest sample: instructions by what they do."""

    @property
    def count(self) -> int:
        """The smallest: nothing makes an inference shorter, a few things make one longer."""
        return min(self.samples)

    @property
    def spread(self) -> float:
        return max(self.samples) / self.count - 1


class CountedRunner:
    """A `Runner` whose runtime lives in a counted process; to be used as a context manager.

    ``half`` asks the runtime for float16 arithmetic, see `lightseg.benchmarks.arm64.half`.
    """

    def __init__(
        self,
        path: Path,
        command: Sequence[str],
        scratch: Path,
        make: Callable[..., Child] = Child,
        half: bool = False,
    ) -> None:
        self.path, self.scratch, self.half = path, scratch, half
        self.child = make(1, command)

    def __enter__(self) -> CountedRunner:
        self.child.__enter__()
        try:
            opened = self.child.ask("open", path=str(self.path.resolve()), half=self.half)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        self.name: str = opened["runtime"]
        self.details: dict[str, str] = opened["details"]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.child.__exit__(kind, error, at)

    def feed(self, x: NDArray[Any]) -> None:
        import numpy as np

        np.save(self.scratch / "input.npy", x)

    def run(self) -> None:
        places = {name: str(self.scratch / f"{name}.npy") for name in ("input", "output")}
        self.child.ask("run", **places)

    def fetch(self) -> NDArray[Any]:
        import numpy as np

        result: NDArray[Any] = np.load(self.scratch / "output.npy")
        return result

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        self.feed(x)
        self.run()
        return self.fetch()

    def count(self, runs: int) -> None:
        """Count ``runs`` inferences of the last input; whoever counts writes what it found."""
        self.child.ask("count", runs=runs)


def why_not() -> str | None:
    """The reason instructions cannot be counted on this machine; None when they can."""
    if shutil.which("valgrind") is None:
        return "not available: install valgrind"
    return None


def count_instructions(path: Path, x: NDArray[Any], runs: int = RUNS) -> Instructions:
    """Instructions of one inference of the array ``x`` (N×3×H×W) by the artifact ``path``, one thread.

    The first inference, which sets things up, is not counted.
    Errors: `Unsupported` without valgrind; `Failed` when the process under it dies.
    """
    reason = why_not()
    if reason:
        raise Unsupported(f"retired instructions are {reason}")
    with tempfile.TemporaryDirectory(prefix="lightseg-count-") as folder:
        counts = Path(folder) / "counts"
        with CountedRunner(path, callgrind_command(counts), Path(folder)) as runner:
            runner(x)
            runner.count(runs)
        return Instructions(net(read_totals(counts)), f"{version()}, x86-64 up to AVX2")


def callgrind_command(counts: Path) -> list[str]:
    options = ["--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={counts}", "-q"]
    return ["valgrind", *options, sys.executable, "-m", COUNTED_MODULE, "callgrind"]


def version() -> str:
    done = subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "valgrind"


def read_totals(counts: Path) -> list[int]:
    """The total of every region callgrind wrote, in their order: ``counts.1``, ``counts.2`` … Errors: `Failed`."""
    files = sorted(counts.parent.glob(f"{counts.name}.*"), key=lambda p: int(p.suffix[1:]))
    found = [re.search(r"^totals: (\d+)", file.read_text(), re.MULTILINE) for file in files]
    totals = [int(match[1]) for match in found if match]
    if len(totals) < 2:
        raise Failed("callgrind wrote no counts; see that `valgrind --tool=callgrind true` works here")
    return totals


def net(totals: Sequence[int]) -> tuple[int, ...]:
    """The regions after the first, less the first, in which nothing ran."""
    empty, *full = totals
    return tuple(total - empty for total in full)
