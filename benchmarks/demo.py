"""The demonstration: the other commands in a row, each on what the one before it wrote. Standard library only.

A step is a command line that the user could type; `demo` runs it in this process and hands its result to the next.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightseg.benchmarks import cli as bench_cli
from lightseg.benchmarks.timing.subject import INTERPRETER
from lightseg.errors import LightsegError, MissingExtra
from lightseg.export import cli as export_cli
from lightseg.export import predict_cli


@dataclass(frozen=True)
class Step:
    """One command of the demonstration. ``result`` is the file its ``--json`` goes to."""

    title: str
    program: str
    main: Callable[[Sequence[str]], int]
    options: tuple[str, ...]
    result: Path

    @property
    def argv(self) -> list[str]:
        return [*self.options, "--json", str(self.result)]

    @property
    def line(self) -> str:
        return shlex.join([self.program, *self.argv])

    def read(self) -> Any:
        return json.loads(self.result.read_text(encoding="utf-8"))


def demo(
    model: str, weights: str | None, photo: Path, out: Path, announce: Callable[[int, Step], None]
) -> dict[str, Any]:
    """Export, predict and benchmark ``model`` into ``out``; return the commands with their seconds, and the files.

    ``announce`` is called before each step with its number.

    Errors: `LightsegError` at the first command that fails, which has said why; `MissingExtra` where no target is
    installed.
    """
    done: list[dict[str, Any]] = []

    def take(step: Step) -> Any:
        announce(len(done) + 1, step)
        start = time.perf_counter()
        run_step(step)
        done.append({"command": step.line, "seconds": round(time.perf_counter() - start, 1), "json": str(step.result)})
        return step.read()

    records = take(export_step(model, weights, out))
    at_speed = [r["path"] for r in records if r["parity"]["runner"]["runtime"] != INTERPRETER]
    if not at_speed:
        raise MissingExtra("the demonstration", "cpu", "ai-edge-litert")
    pictures = take(predict_step(photo, at_speed[-1], out))
    take(bench_step(at_speed, weights, out))
    artifacts = [r["path"] for r in records]
    return {"steps": done, "artifacts": artifacts, "used": at_speed[-1], "pictures": pictures[0]["files"]}


def export_step(model: str, weights: str | None, out: Path) -> Step:
    argv = ("--model", model, "--to", "all", "--out", str(out), *_weights(weights))
    title = "export to every format this machine can run, each compared with PyTorch"
    return Step(title, "lightseg-export", export_cli.main, argv, out / "export.json")


def predict_step(photo: Path, artifact: str, out: Path) -> Step:
    argv = (str(photo), "--artifact", artifact, "--out", str(out))
    title = "mask, cut-out and overlay of a photograph, by an exported file"
    return Step(title, "lightseg-predict", predict_cli.main, argv, out / "predict.json")


def bench_step(artifacts: Sequence[str], weights: str | None, out: Path) -> Step:
    argv = (*artifacts, "--quick", *_weights(weights))
    title = "latency of PyTorch and of each file, one thread, every row in a fresh process"
    return Step(title, "lightseg-bench", bench_cli.main, argv, out / "bench.json")


def run_step(step: Step) -> None:
    """Errors: `LightsegError` when the command's exit code is not 0."""
    if step.main(step.argv):
        raise LightsegError(f"stopped at {step.program}, which says above what is wrong and what to do")


def _weights(weights: str | None) -> tuple[str, ...]:
    return () if weights is None else ("--weights", weights)
