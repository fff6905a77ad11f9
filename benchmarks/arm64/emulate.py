"""An artifact on an emulated ARM processor: whether it answers as PyTorch does, and how many instructions it takes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightseg.benchmarks.arm64.root import CPU, RUNS_HERE, Root, emulator_version
from lightseg.benchmarks.counting.counters import counts_of_file, one_input
from lightseg.benchmarks.counting.instructions import COUNTED_MODULE, CountedRunner, Instructions, net
from lightseg.benchmarks.profile import COUNTED
from lightseg.benchmarks.timing.process import Failed
from lightseg.errors import BadInput, LightsegError, ParityError
from lightseg.export.runner import Runner

if TYPE_CHECKING:
    from lightseg.export.artifact import Artifact

RUNS = 4
"""Counted inferences; the smallest count is reported (ONNX Runtime's now and then takes half a percent more)."""
ASKED = "float16 arithmetic"
"""What lines call the second row of a float16 file."""
LOOSE = 1e9
"""A limit that only NaN does not keep."""
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
    half: bool = False
    """Whether the runtime was asked for float16 arithmetic."""

    @property
    def title(self) -> str:
        """What lines call it."""
        return titled(self.name, self.half)

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
            "half": self.half,
        }


def emulate(root: Root, path: Path, half: bool = False) -> Emulated:
    """One artifact, with ``half`` in float16 arithmetic, whose multiply-adds are then seen to have run.

    Errors: `Failed` when the emulated process dies, or asked for float16 computes in float32; `BadInput` for a file
    nothing there runs; those of `read_artifact` and of the counters.
    """
    if path.suffix not in RUNS_HERE:
        raise BadInput(
            f"{path.name}: the emulated ARM processor runs {', '.join(RUNS_HERE)} files; export one of those"
        )
    macs = counts_of_file(path)["macs"] if path.suffix in COUNTED else None
    runs = RUNS if (macs or 0) <= LARGE else RUNS // 2
    with tempfile.TemporaryDirectory(prefix="lightseg-arm64-") as folder:
        counts = Path(folder) / "counts"
        command = root.command(["-m", COUNTED_MODULE, "syscall"], counts)
        with CountedRunner(path, command, Path(folder), half=half) as runner:
            parity, disagrees = compare(path, runner, half)
            if not parity:
                runner(one_input(path))
            runner.count(runs)
            details = dict(runner.details)
        instructions = read_counts(counts, runs)
    if half and not (instructions.mix or {}).get("fma16"):
        raise Failed(f"{details['runtime']} was asked for {ASKED} and ran no float16 multiply-add")
    return Emulated(path.name, instructions, macs, parity, disagrees, details, half)


def count_emulated(root: Root) -> Callable[[Path, NDArray[Any]], Instructions]:
    """A counter for `count_artifact`; an artifact that disagrees raises `ParityError`: a wrong answer has no price."""

    def count(path: Path, x: NDArray[Any]) -> Instructions:
        result = emulate(root, path)
        if result.disagrees:
            raise ParityError(f"on the emulated ARM processor, {result.disagrees}")
        return result.instructions

    return count


def compare(path: Path, runner: CountedRunner, half: bool) -> tuple[tuple[dict[str, Any], ...], str | None]:
    """The artifact's golden outputs repeated on ``runner``, and why they are not, where they are not.

    With ``half`` they may differ by what float16 sums do, see `sums`; where the network is not at hand to say so, the
    file's own limits stand, which are narrower. The figures are there either way, but for NaN.
    """
    from lightseg.benchmarks.selection import is_foreign
    from lightseg.export.parity import check_goldens
    from lightseg.export.record import read_artifact

    if is_foreign(path):
        return (), None
    artifact, once, narrow = read_artifact(path), Remembering(runner), ""
    if half:
        artifact, narrow = _allowing_sums(artifact)
    disagrees = None
    try:
        checked = check_goldens(artifact, once)
    except ParityError as error:
        checked, disagrees = figures(artifact, once), str(error)
    scales = {golden.probe: golden for golden in artifact.golden}
    parity = tuple(_with_scale(one, scales[one["probe"]]) for one in checked)
    if half and disagrees and parity:
        disagrees = beyond(parity, 1 - artifact.tolerance["agreement"]) + narrow
    return parity, disagrees


def _allowing_sums(artifact: Artifact) -> tuple[Artifact, str]:
    """The artifact with limits for float16 arithmetic; itself, and why, where its network cannot be made again."""
    from lightseg.benchmarks.arm64.sums import for_float16_sums

    try:
        return for_float16_sums(artifact), ""
    except LightsegError as error:
        return artifact, f" (these limits are for rounded values; what rounded sums do is not known here: {error})"


class Remembering(Runner):
    """The answers of ``runner``, each asked for once: an emulated inference of a large network takes minutes."""

    def __init__(self, runner: Runner) -> None:
        self.name, self.details = runner.name, runner.details
        self._runner, self._answers = runner, dict[bytes, NDArray[Any]]()

    def feed(self, x: NDArray[Any]) -> None:
        self._x = x

    def run(self) -> None:
        if self._x.tobytes() not in self._answers:
            self._answers[self._x.tobytes()] = self._runner(self._x)

    def fetch(self) -> NDArray[Any]:
        return self._answers[self._x.tobytes()]


def figures(artifact: Artifact, runner: Runner) -> list[dict[str, Any]]:
    """What `check_goldens` would have returned of an artifact that fails it; nothing for NaN or a wrong shape."""
    from lightseg.export.parity import check_goldens

    golden = tuple(replace(one, largest=LOOSE, mean=LOOSE, ties=one.mask.size) for one in artifact.golden)
    loose = replace(artifact, golden=golden, tolerance={**artifact.tolerance, "agreement": 0.0})
    try:
        checked = check_goldens(loose, runner)
    except ParityError:
        return []
    share = [own.largest / LOOSE for own in artifact.golden]
    own = zip(checked, artifact.golden, share, strict=True)
    return [{**one, "allowed": one["allowed"] * part, "ties": golden.ties} for one, golden, part in own]


def beyond(parity: Sequence[dict[str, Any]], share: float) -> str:
    """Why an answer in float16 arithmetic does not count as float16's; ``share`` of the pixels may change class."""
    may_flip = {one["probe"]: min(one["ties"], int(share * one["pixels"])) for one in parity}
    worst = max(
        parity, key=lambda one: max(one["max_error"] / one["allowed"], one["flips"] / (may_flip[one["probe"]] + 1))
    )
    return (
        f"in float16 arithmetic on {worst['probe']} the largest error is {worst['max_error']:.3g} (allowed "
        f"{worst['allowed']:.3g}) and {worst['flips']} of {worst['pixels']:,} pixels changed class (allowed "
        f"{may_flip[worst['probe']]}); compute in float32, or judge it on photographs"
    )


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
        name = path.name
        try:
            for half in arithmetics(path):
                name = titled(path.name, half)
                announce(f"emulating {name}")
                done.append(one(root, path, half))
                count = done[-1].instructions.count / 1e6  # large networks take minutes each
                announce(f"  {count:,.1f} M instructions")
        except LightsegError as error:
            failed[name] = str(error)
    return done, failed


def titled(name: str, half: bool) -> str:
    return f"{name} in {ASKED}" if half else name


def arithmetics(path: Path) -> tuple[bool, ...]:
    """Whether in float16: never by itself, and for float16 files once more where the runtime can be asked."""
    from lightseg.benchmarks.arm64.half import HALF
    from lightseg.benchmarks.selection import is_foreign
    from lightseg.export.record import read_artifact

    asks = path.suffix in HALF and not is_foreign(path)
    return (False, True) if asks and read_artifact(path).precision == "fp16" else (False,)
