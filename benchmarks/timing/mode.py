"""Timing: from the options to measured rows or comparisons, and their tables."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightseg.benchmarks.architectures import ARCHITECTURES, architecture_subject
from lightseg.benchmarks.ceilings import measure_ceilings
from lightseg.benchmarks.layers import layers_of
from lightseg.benchmarks.peers import peer_subject
from lightseg.benchmarks.results.report import Report, against, bench, costs_of
from lightseg.benchmarks.results.tables import comparison_table, latency_table, machine, notes
from lightseg.benchmarks.samples import samples_of
from lightseg.benchmarks.selection import PLAIN, artifact_subjects, eager_subject, grouped, other_side, plain_twin
from lightseg.benchmarks.timing.environment import available_cores, quiet_cores
from lightseg.benchmarks.timing.latency import FULL, QUICK, Protocol
from lightseg.benchmarks.timing.measure import Row, measure
from lightseg.benchmarks.timing.ways import Ways, expanded, ways
from lightseg.errors import BadInput

if TYPE_CHECKING:
    from rich.console import Console

    from lightseg.benchmarks.timing.subject import Subject


def subjects(
    args: argparse.Namespace,
    models: Sequence[str],
    artifacts: Sequence[Path],
    peers: Sequence[Path],
    announce: Callable[[str], None],
) -> list[Subject]:
    """Models in PyTorch, each followed by its artifacts; then the peers; all in every way that was asked for."""
    named = [eager_subject(name, args.weights, args.input_size) for name in models]
    others = [peer_subject(path) for path in peers]
    asked = args.peers.split(",") if args.peers else []
    others += [architecture_subject(name, args.input_size) for name in asked if name in ARCHITECTURES]
    return grouped(expanded([*named, *artifact_subjects(artifacts, args.weights), *others], ways(args), announce))


def measured(
    args: argparse.Namespace,
    todo: Sequence[Subject],
    announce: Callable[[str], None],
    one: Callable[..., Row] = measure,
    facts: dict[str, Any] | None = None,
) -> Report:
    """Rows for all of ``todo``, each by ``one``; with ``--against``, comparisons: of the files where there are any.

    ``facts`` are the environment, where it is more than this machine's.
    """
    images = None if args.images is None else str(args.images.resolve())
    save_to = None if args.json in (None, "-") else Path(args.json)
    how, sets = protocol(args), [cores(args, threads) for threads in args.thread_counts]
    where = sets[0]
    if args.against is None:
        report = bench(todo, how, sets, images, save_to, announce, args.resume, facts, one)
    else:
        with tempfile.TemporaryDirectory(prefix="lightseg-plain-") as folder:
            pairs = opposed(args, todo, args.out or Path(folder), announce)
            report = against(pairs, how, where, images, save_to, announce)
    if args.report is not None and args.device in ("cpu", "cuda"):
        announce("measuring this machine's limits")
        report.ceilings, report.costs = measure_ceilings(where, device=args.device), costs_of(todo)
        report.layers = layers_of(todo, where, images, announce) if args.device == "cpu" else {}
        report.samples = samples_of(todo, images, announce)
        if save_to is not None:
            report.save(save_to)
    return report


def opposed(
    args: argparse.Namespace, todo: Sequence[Subject], folder: Path, announce: Callable[[str], None]
) -> Iterator[tuple[Subject, Subject]]:
    """Each file of ``todo``, or where there is none each model, with what ``--against`` compares it with.

    ``plain`` files are written into ``folder``, each when its turn comes.
    """
    files = [subject for subject in todo if subject.path is not None]
    if args.against == PLAIN and not files:
        raise BadInput("--against plain compares exported files: name one, or add --to onnx")
    for subject in files or todo:
        other = (
            plain_twin(subject, args.weights, folder, announce)
            if args.against == PLAIN
            else other_side(args.against, announce)
        )
        (opposite,) = expanded([other], Ways(ways(args).device), announce)
        yield subject, opposite


def show(report: Report, console: Console) -> None:
    if report.comparisons:
        console.print(comparison_table(report.comparisons))
        console.print(machine(report), highlight=False, markup=False)
    if report.rows:
        console.print(latency_table(report.rows))
        for line in [machine(report), *notes(report.rows)]:
            console.print(line, highlight=False, markup=False)


def protocol(args: argparse.Namespace) -> Protocol:
    asked = {name: getattr(args, name) for name in ("samples", "seconds", "processes")}
    asked |= {"restarts": args.processes, "limit_seconds": args.limit}
    return replace(QUICK if args.quick else FULL, **{name: v for name, v in asked.items() if v is not None})


def cores(args: argparse.Namespace, threads: int) -> list[int]:
    """One core for each of ``threads``. Errors: `BadInput` where there are not as many, or others were named."""
    allowed = available_cores()
    if threads > len(allowed):
        raise BadInput(f"--threads {threads}: this process may use {len(allowed)} cores; take at most as many")
    if args.cores is None:
        return quiet_cores(threads)
    if len(args.cores) != args.thread_counts[-1] or not set(args.cores) <= set(allowed):
        raise BadInput(f"--cores needs {args.thread_counts[-1]} of {','.join(map(str, allowed))}, one for every thread")
    return list(args.cores[:threads])
