"""An artifact on an emulated ARM processor: whether it answers as PyTorch does, and how many instructions it takes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightseg.benchmarks.arm64.root import CPU, Root, emulator_version
from lightseg.benchmarks.counting.counters import counts_of_file, one_input
from lightseg.benchmarks.counting.instructions import COUNTED_MODULE, CountedRunner, Instructions, net
from lightseg.benchmarks.profile import COUNTED
from lightseg.benchmarks.timing.process import Failed
from lightseg.errors import LightsegError, ParityError

RUNS = 4
"""Counted inferences; the smallest count is reported (ONNX Runtime's now and then takes half a percent more)."""
LARGE = 1_000_000_000
"""Networks of more MACs take minutes each time: half as many inferences are counted."""


@dataclass(frozen=True)
class Emulated:
    """One artifact. ``parity`` is empty for a foreign file, which has no golden outputs to compare with."""

    name: str
    instructions: Instructions
    macs: int | None
    """None where the format cannot be counted."""
    parity: tuple[dict[str, Any], ...]
    """Per golden: the probe, the largest error and what was allowed, pixels that changed class."""
    disagrees: str | None
    """Why the artifact is not equal to PyTorch on this processor; None when it is."""
    details: dict[str, str]

    @property
    def relative_error(self) -> float | None:
        """The largest error over the largest reference logit, worst of all goldens."""
        return max((one["relative_error"] for one in self.parity), default=None)

    @property
    def changed(self) -> int:
        """Pixels of all goldens whose class is not PyTorch's."""
        return sum(one["flips"] for one in self.parity)

    @property
    def pixels(self) -> int:
        return sum(one["pixels"] for one in self.parity)

    def to_dict(self) -> dict[str, Any]:
        return {
            "artifact": self.name,
            "device": "arm64 (emulated)",
            "instructions": self.instructions.count,
            "samples": list(self.instructions.samples),
            "counter": self.instructions.counter,
            "mix": self.instructions.mix,
            "macs": self.macs,
            "parity": list(self.parity),
            "relative_error": self.relative_error,
            "disagrees": self.disagrees,
            "details": self.details,
        }


def emulate(root: Root, path: Path) -> Emulated:
    """Errors: `Failed` when the emulated process dies; those of `read_artifact` and of the counters."""
    macs = counts_of_file(path)["macs"] if path.suffix in COUNTED else None
    runs = RUNS if (macs or 0) <= LARGE else RUNS // 2
    with tempfile.TemporaryDirectory(prefix="lightseg-arm64-") as folder:
        counts = Path(folder) / "counts"
        command = root.command(["-m", COUNTED_MODULE, "syscall"], counts)
        with CountedRunner(path, command, Path(folder)) as runner:
            parity, disagrees = compare(path, runner)
            if not parity:
                runner(one_input(path))
            runner.count(runs)
            details = dict(runner.details)
        instructions = read_counts(counts, runs)
    return Emulated(path.name, instructions, macs, parity, disagrees, details)


def count_emulated(root: Root) -> Callable[[Path, NDArray[Any]], Instructions]:
    """A counter for `count_artifact`; an artifact that disagrees raises `ParityError`: a wrong answer has no price."""

    def count(path: Path, x: NDArray[Any]) -> Instructions:
        result = emulate(root, path)
        if result.disagrees:
            raise ParityError(f"on the emulated ARM processor, {result.disagrees}")
        return result.instructions

    return count


def compare(path: Path, runner: CountedRunner) -> tuple[tuple[dict[str, Any], ...], str | None]:
    """The artifact's golden outputs repeated on ``runner``, and why they are not, where they are not."""
    from lightseg.benchmarks.selection import is_foreign
    from lightseg.export.artifact import read_artifact
    from lightseg.export.parity import check_goldens

    if is_foreign(path):
        return (), None
    artifact = read_artifact(path)
    try:
        checked = check_goldens(artifact, runner)
    except ParityError as error:
        return (), str(error)
    scales = {golden.probe: golden for golden in artifact.golden}
    return tuple(_with_scale(one, scales[one["probe"]]) for one in checked), None


def _with_scale(one: dict[str, Any], golden: Any) -> dict[str, Any]:
    largest = float(np.abs(golden.samples).max())
    return {**one, "relative_error": one["max_error"] / largest, "pixels": int(golden.mask.size)}


def read_counts(file: Path, runs: int) -> Instructions:
    """From the plugin's lines: one empty region and then ``runs``. Errors: `Failed`."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()
        regions = [{name: int(value) for name, _, value in (f.partition("=") for f in line.split())} for line in lines]
        totals = net([region["total"] for region in regions])
    except (OSError, ValueError, KeyError) as error:
        raise Failed(f"the emulator's counts cannot be read ({type(error).__name__}); set it up again") from error
    if len(totals) != runs:
        raise Failed(f"the emulator counted {len(totals)} inferences of {runs}; set it up again")
    smallest = regions[1 + totals.index(min(totals))]
    mix = {name: count for name, count in smallest.items() if name != "total"}
    version = ".".join(map(str, emulator_version() or ()))
    return Instructions(totals, f"qemu-user {version}, {CPU}", mix)


def emulate_all(
    root: Root, paths: list[Path], announce: Callable[[str], None], one: Callable[..., Emulated] = emulate
) -> tuple[list[Emulated], dict[str, str]]:
    """Every artifact in turn; one that fails is kept with its reason and the others go on."""
    done: list[Emulated] = []
    failed: dict[str, str] = {}
    for path in paths:
        announce(f"emulating {path.name}")
        try:
            done.append(one(root, path))
            announce(f"  {done[-1].instructions.count / 1e6:,.1f} M instructions")  # large networks take minutes each
        except LightsegError as error:
            failed[path.name] = str(error)
    return done, failed
