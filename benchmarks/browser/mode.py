"""``--device browser``: from files to rows measured in Chromium."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightseg.benchmarks.browser import chromium, runtimes
from lightseg.benchmarks.browser.child import PageChild, Place
from lightseg.benchmarks.browser.contract import Contract
from lightseg.benchmarks.browser.runtimes import RUNTIMES
from lightseg.benchmarks.browser.table import parity_table
from lightseg.benchmarks.selection import artifact_subjects
from lightseg.benchmarks.timing import mode as timing_mode
from lightseg.benchmarks.timing.environment import environment
from lightseg.benchmarks.timing.measure import Row, measure
from lightseg.errors import BadInput

if TYPE_CHECKING:
    from rich.console import Console

    from lightseg.benchmarks.results.report import Report
    from lightseg.benchmarks.timing.latency import Protocol
    from lightseg.benchmarks.timing.subject import Subject

NOTE = "in Chromium; the run includes the copies into and out of WebAssembly memory"
TARGETS = ",".join(runtime.target for runtime in RUNTIMES)
"""What a model is exported to when nothing is named."""
FOREIGN_LAYOUT = {"input": "NHWC float32", "output": "NHWC float32"}


def find_place(named: Path | None) -> Place:
    """Errors: `Unsupported` and `BadInput` in one line where there is no browser or no runtime yet."""
    program = chromium.find(named)
    folder = runtimes.default_folder()
    runtimes.require(folder)
    return Place(program, folder)


def subjects(artifacts: Sequence[Path], peers: Sequence[Path] = ()) -> list[Subject]:
    """Every file as a row of the runtime that takes it.

    Errors: `BadInput` for files no browser runtime takes, and those of `artifact_subjects` and `peer_subject`.
    """
    from lightseg.benchmarks.peers import peer_subject

    own = [s for path in artifacts for s in artifact_subjects([path]) if s.path is not None]
    return [*(in_browser(s, s.runtime) for s in own), *(in_browser(peer_subject(p), "tflite") for p in peers)]


def in_browser(subject: Subject, target: str) -> Subject:
    """The same file, run by the browser's runtime for its ``target``."""
    runtime = next((one for one in RUNTIMES if one.target == target), None)
    if runtime is None:
        name = Path(subject.path or "").name
        raise BadInput(f"{name} is {target}, which runs in no browser; export with --to {TARGETS}")
    notes = "; ".join(filter(None, (subject.note, NOTE)))
    return replace(subject, runtime=runtime.name, device="browser", note=notes)


def browse(
    args: argparse.Namespace, place: Place, todo: Sequence[Subject], console: Console, announce: Callable[[str], None]
) -> tuple[dict[str, Any], list[str]]:
    """Measure and print ``todo``; return the result, and a line per row that failed or answers wrongly."""
    widest = timing_mode.cores(args, args.thread_counts[-1])
    facts = with_browser(environment(widest), place)
    report = timing_mode.measured(args, todo, announce, partial(measure_in, place), facts)
    timing_mode.show(report, console)
    if report.rows:
        console.print(parity_table(report.rows))
        facts = report.rows[0].details
        line = f"{facts['browser']}; SIMD {facts['simd']}; {facts['clock']}"
        console.print(line, highlight=False, markup=False)
    failed = [f"{name} failed: {reason}" for name, reason in report.failed.items()]
    return report.to_dict(), [*failed, *wrong_answers(report)]


def with_browser(facts: dict[str, Any], place: Place) -> dict[str, Any]:
    """The environment, with the versions of what runs there."""
    found = {package.name: package.version for package in runtimes.packages()}
    return {**facts, "versions": {**facts["versions"], **found, "chromium": chromium.version(place.program)}}


def measure_in(place: Place, subject: Subject, protocol: Protocol, cores: Sequence[int], images: str | None) -> Row:
    """`measure`, with pages in place of processes of our own."""
    contract = contract_of(subject)
    return measure(subject, protocol, cores, images, lambda threads: PageChild(place, contract, cores))


def contract_of(subject: Subject) -> Contract:
    """Errors: `Unsupported` for a file that the page cannot feed."""
    from lightseg.export.record import read_artifact

    path = Path(subject.path or "")
    return Contract.of(read_artifact(path).layout if subject.proof else FOREIGN_LAYOUT)


def wrong_answers(report: Report) -> list[str]:
    """A line for every row whose golden outputs the browser did not repeat: these make the exit status 1."""
    wrong = {f"{row.subject.name}: {p.goldens['wrong']}" for row in report.rows for p in row.processes if p.goldens}
    return sorted(line for line in wrong if not line.endswith(": "))
