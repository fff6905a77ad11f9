"""The counted process, run by valgrind or an emulator.

As ``python -m lightseg.benchmarks.counting.counted callgrind|syscall``.
It speaks the measured process's protocol (see `lightseg.benchmarks.timing.child`). Nothing but numpy and the
artifact's own runtime is needed, so that it also runs in a root folder of another processor; inputs and outputs travel
as .npy files.

open   make the artifact ``path`` ready, one thread; with ``half``, to compute in float16 where the processor can
run    one inference of the array in ``input``, its result to ``output``
count  ``runs`` inferences of the last input, each between marks, after one region with nothing in it
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightseg.benchmarks.counting.marks import MARKS, Marks
from lightseg.benchmarks.timing.child import Handler, claim_stdout, serve

if TYPE_CHECKING:
    from lightseg.export.runner import Runner


class Counted:
    """The state between requests: an artifact made ready."""

    runner: Runner

    def __init__(self, marks: str) -> None:
        self._marks = marks

    @property
    def requests(self) -> dict[str, Handler]:
        return {"open": self.open, "run": self.run, "count": self.count}

    def open(self, request: dict[str, Any]) -> dict[str, Any]:
        from lightseg.export.targets import target_of

        path = Path(request["path"])
        target = target_of(path)
        target.require(target.load_needs, "running")
        self.runner = in_half(path) if request.get("half") else target.load(path, 1)
        return {"runtime": self.runner.name, "details": self.runner.details}

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        self.runner.feed(np.load(request["input"]))
        self.runner.run()
        np.save(request["output"], self.runner.fetch())
        return {}

    def count(self, request: dict[str, Any]) -> dict[str, Any]:
        marks = MARKS[self._marks]()
        gc.disable()
        enclose(marks, lambda: None)
        for _ in range(request["runs"]):
            enclose(marks, self.runner.run)
        return {}


def in_half(path: Path) -> Runner:
    from lightseg.benchmarks.arm64.half import HALF

    return HALF[path.suffix](path)


def enclose(marks: Marks, run: Any) -> None:
    """The same few Python instructions around whatever is counted, so that they can be taken off."""
    marks.begin()
    run()
    marks.end()


if __name__ == "__main__":
    serve(sys.stdin, claim_stdout(), Counted(sys.argv[1]))
