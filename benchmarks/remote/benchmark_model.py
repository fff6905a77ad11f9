"""LiteRT's own ``benchmark_model`` on a phone without Python.

It follows a protocol of its own (one image, its own warm-up, its own clock) and tells statistics, no samples: what it
says stands in a table of its own and never beside rows that we sampled. What it answers is compared all the same.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightseg.benchmarks.remote.adb import Adb, thermal
from lightseg.benchmarks.remote.link import Unreachable, attempt, check, last_line, run
from lightseg.benchmarks.timing.latency import Protocol
from lightseg.benchmarks.timing.process import Failed
from lightseg.benchmarks.timing.subject import Subject
from lightseg.errors import BadInput, LightsegError, ParityError, Unsupported
from lightseg.export.artifact import Artifact
from lightseg.export.parity import check_goldens
from lightseg.export.record import read_artifact
from lightseg.export.runner import Runner

NAME = "benchmark_model"
PLACES = (f"/data/local/tmp/{NAME}", f"$(command -v {NAME})")
"""Where one may be already."""
STATISTICS = re.compile(r"\b(count|first|curr|min|max|avg|std|p5|median|p95)=([\d.e+]+)")
TIMINGS = re.compile(
    r"Init: ([\d.e+]+), First inference: ([\d.e+]+), Warmup \(avg\): ([\d.e+]+), Inference \(avg\): ([\d.e+]+)"
)
DELEGATES = (r"[^\n]*executed by the delegate[^\n]*", r"[^\n]*XNNPACK delegate[^\n]*")
"""What says which kernels ran, the surest first."""
SECONDS = 1800.0


@dataclass(frozen=True)
class Told:
    """What one process reported, microseconds; None where this version does not say it."""

    init: float
    first: float
    warm_up: float
    average: float
    count: int
    minimum: float
    maximum: float
    deviation: float
    median: float | None
    p5: float | None
    p95: float | None
    delegate: str
    thermal: tuple[str, str]
    """Android's throttling state before and after."""


@dataclass(frozen=True)
class Summary:
    """One row: what every process told, and whether the answers are right."""

    subject: Subject
    threads: int
    told: tuple[Told, ...]
    wrong: str
    """Why the answers are not PyTorch's; empty when they are."""
    compared: bool
    """Whether answers could be had at all: old versions do not save them."""

    @property
    def verdict(self) -> str:
        return "INVALID" if self.wrong else "SUMMARY ONLY"

    @property
    def reasons(self) -> list[str]:
        found = [self.wrong] if self.wrong else []
        if not self.compared:
            found.append(f"its answers were not compared: this {NAME} knows no --output_filepath")
        if any(state not in ("none", "not readable") for one in self.told for state in one.thermal):
            found.append("the phone throttled")
        return found

    def to_dict(self) -> dict[str, Any]:
        return {
            "subject": self.subject.to_dict(),
            "threads": self.threads,
            "source": f"LiteRT {NAME}, its own protocol: one image, no raw samples",
            "verdict": self.verdict,
            "reasons": self.reasons,
            "compared": self.compared,
            "processes_us": [asdict(one) for one in self.told],
        }


class Tool:
    """The program on the phone, in our folder there."""

    def __init__(self, link: Adb, folder: str, given: Path | None) -> None:
        self.link, self.folder, self._quoted = link, folder, shlex.quote(folder)
        self.program = self._pushed(given) if given else self._found()

    def _pushed(self, given: Path) -> str:
        if not given.is_file():
            raise BadInput(f"--benchmark-model {given}: no such file")
        self.link.put({NAME: given.read_bytes()}, self.folder)
        run(self.link, f"chmod 755 {self._quoted}/{NAME}")
        return f"{self._quoted}/{NAME}"

    def _found(self) -> str:
        for place in PLACES:
            path = run(self.link, f'p="{place}"; [ -n "$p" ] && [ -x "$p" ] && echo "$p"; true').strip()
            if path:
                return path
        raise Unsupported(
            f"{self.link.name} has neither Python nor {NAME}; build LiteRT's for its processor and give it with "
            f"--benchmark-model FILE, or install Termux with Python there and use --device ssh:"
        )

    def measure(self, subject: Subject, protocol: Protocol, threads: int) -> Summary:
        """Errors: `Failed`, `Unreachable`; `Unsupported` for a file that is none of TFLite's."""
        path = Path(subject.path or "")
        if path.suffix != ".tflite":
            raise Failed(f"{NAME} runs .tflite files only; export {subject.label} with --to tflite")
        self.link.put({path.name: path.read_bytes()}, self.folder)
        artifact = read_artifact(path) if subject.proof else None
        compared, wrong = self._compare(artifact, threads) if artifact else (True, "")
        told = tuple(self._told(path.name, protocol, threads) for _ in range(protocol.processes))
        return Summary(subject, threads, told, wrong, compared)

    def run(self, graph: str, threads: int, *options: str) -> str:
        words = [f"--graph={self.folder}/{graph}", f"--num_threads={threads}", *options]
        script = f"cd {self._quoted} && {self.program} {' '.join(map(shlex.quote, words))} 2>&1; exit $?"
        code, out, said = attempt(self.link.command(script), seconds=SECONDS)
        if code:
            line = self.link.broken(code, said)
            raise Unreachable(line) if line else Failed(f"{NAME} ended with status {code}: {last_line(out)}")
        return out

    def _told(self, graph: str, protocol: Protocol, threads: int) -> Told:
        before = thermal(self.link)
        options = {
            "num_runs": protocol.samples,
            "min_secs": protocol.seconds,
            "max_secs": protocol.limit_seconds or SECONDS,
            "warmup_min_secs": protocol.warmup_seconds / 10,
        }
        out = self.run(graph, threads, *(f"--{name}={value}" for name, value in options.items()))
        return read(out, (before, thermal(self.link)))

    def _compare(self, artifact: Artifact, threads: int) -> tuple[bool, str]:
        runner = ToolRunner(self, artifact, threads)
        try:
            check_goldens(artifact, runner)
        except ParityError as error:
            return True, str(error)
        except NoOutput:
            return False, ""
        return True, ""


class NoOutput(LightsegError):
    """The program saved no output."""


class ToolRunner(Runner):
    """One image through the program, its answer fetched as a file; its time means nothing."""

    def __init__(self, tool: Tool, artifact: Artifact, threads: int) -> None:
        self.name, self.details = NAME, {"runtime": NAME}
        self._tool, self._artifact, self._threads = tool, artifact, threads
        self._dtype = np.uint8 if artifact.baked else np.float32

    def feed(self, x: NDArray[Any]) -> None:
        native = np.ascontiguousarray(x.transpose(0, 2, 3, 1), self._dtype)
        self._shape = native.shape
        self._tool.link.put({"input.bin": native.tobytes()}, self._tool.folder)

    def run(self) -> None:
        folder = self._tool.folder
        run(self._tool.link, f"rm -f {shlex.quote(folder)}/output.bin")
        self._tool.run(
            self._artifact.path.name,
            self._threads,
            "--input_layer=image",
            f"--input_layer_shape={','.join(map(str, self._shape))}",
            f"--input_layer_value_files=image:{folder}/input.bin",
            f"--output_filepath={folder}/output.bin",
            "--num_runs=1",
            "--warmup_runs=0",
            "--min_secs=0",
            "--warmup_min_secs=0",
        )

    def fetch(self) -> NDArray[Any]:
        tool = self._tool
        code, _, said = attempt(tool.link.command(f"[ -s {shlex.quote(tool.folder)}/output.bin ] || exit 9"))
        if code == 9:
            raise NoOutput("no output file")
        check(tool.link, code, said)
        n, c, h, w = self._artifact.output_shape
        element = self._artifact.layout["output"].partition(" ")[2] or "float32"
        data = np.frombuffer(tool.link.get(f"{tool.folder}/output.bin"), element)
        if data.size != n * c * h * w:
            raise ParityError(f"{self._artifact.path.name} returns {data.size} numbers there, not {n * c * h * w}")
        return data.reshape(n, h, w, c).transpose(0, 3, 1, 2)


def read(out: str, thermal_states: tuple[str, str] = ("not readable", "not readable")) -> Told:
    """From the program's own lines, of any version so far. Errors: `Failed` where they do not hold the timings."""
    summary = TIMINGS.search(out)
    lines = [dict(STATISTICS.findall(line)) for line in out.splitlines() if "count=" in line and "avg=" in line]
    if summary is None or not lines:
        raise Failed(f"{NAME} told no timings: {last_line(out)}")
    last = {name: float(value) for name, value in lines[-1].items()}
    delegate = next((found for pattern in DELEGATES if (found := re.search(pattern, out))), None)
    init, first, warm_up, average = map(float, summary.groups())
    return Told(
        init, first, warm_up, average, int(last["count"]), last.get("min", average), last.get("max", average),
        last.get("std", 0.0), last.get("median"), last.get("p5"), last.get("p95"),
        delegate[0].removeprefix("INFO:").strip() if delegate else "not said", thermal_states,
    )  # fmt: skip


def middle(values: Sequence[float | None]) -> float | None:
    """The median over processes of what each told; None where one did not."""
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known and len(known) == len(values) else None
