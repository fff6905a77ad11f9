"""lightseg-bench: how long an artifact or a model takes, and what it costs by counting."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightseg import cli
from lightseg.benchmarks.options import parser as parser

if TYPE_CHECKING:
    from rich.console import Console

    from lightseg.benchmarks.latency import Protocol
    from lightseg.benchmarks.report import Report
    from lightseg.benchmarks.subject import Subject

WIDTH = 160
"""Columns of the tables where nobody's terminal says how wide it is."""


def main(argv: Sequence[str] | None = None) -> int:
    return cli.run(parser(), run, argv)


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    check(args)
    to_file = not (sys.stderr if args.json == "-" else sys.stdout).isatty()
    console = Console(stderr=args.json == "-", width=WIDTH if to_file else None)
    if args.setup:
        from lightseg.benchmarks.counting_mode import set_up

        cli.emit_json(args.json, set_up(announce))
        return 0
    if args.profile:
        from lightseg.benchmarks.profile import profile

        cli.emit_json(args.json, profile(args.artifact, models(args), args.input_size, console))
        return 0
    if counts_only(args):
        with exported(args) as artifacts:
            return counted(args, artifacts, console)
    if args.device == "cuda":
        from lightseg.benchmarks.cuda import require_cuda

        require_cuda()
    with exported(args) as artifacts:
        report = measured(args, subjects(args, artifacts))
    return finish(args, report, console)


def check(args: argparse.Namespace) -> None:
    """Exit with status 2 for options that do not go together."""
    error = parser().error
    if args.setup and args.device != "arm64":
        error("--setup belongs to --device arm64")
    if args.setup:
        return
    if not (args.artifact or args.model or args.peers):
        error("nothing to measure; name an artifact file, or a model with --model sinet")
    if args.to and not args.model:
        error("--to exports a model; name it with --model")
    if counts_only(args) and not (args.artifact or args.to or args.peers):
        error("counts are of files; name an .onnx or .tflite file, or add --to tflite to --model")
    if counts_only(args) and (args.threads != 1 or args.against):
        error("instructions are counted on one thread, file by file; leave --threads and --against out")


def counts_only(args: argparse.Namespace) -> bool:
    return bool(args.counters or args.budget or args.write_budget or args.device == "arm64")


def models(args: argparse.Namespace) -> list[str]:
    return cli.model_names(args.model, "") if args.model else []


@contextmanager
def exported(args: argparse.Namespace) -> Iterator[list[Path]]:
    """The artifacts given and those ``--to`` makes; without ``--out`` the latter go when the block ends."""
    with tempfile.TemporaryDirectory(prefix="lightseg-bench-") as temporary:
        paths = list(args.artifact)
        if args.to:
            from lightseg.benchmarks.selection import export_all
            from lightseg.export.pipeline import Request

            request = Request(precision=args.precision, input_size=args.input_size)
            out = args.out or Path(temporary)
            paths += export_all(models(args), args.weights, args.to, request, out, announce)
        yield paths


def subjects(args: argparse.Namespace, artifacts: Sequence[Path]) -> list[Subject]:
    """Models in PyTorch eager, each followed by its artifacts."""
    from lightseg.benchmarks.peers import peer_subject
    from lightseg.benchmarks.selection import artifact_subjects, eager_subject, grouped

    eager = [eager_subject(name, args.weights, args.input_size, args.device) for name in models(args)]
    others = [peer_subject(path) for path in peers(args)]
    return grouped(eager, artifact_subjects(artifacts, args.device, args.weights), others)


def measured(args: argparse.Namespace, todo: Sequence[Subject]) -> Report:
    """Rows for all of ``todo``; with ``--against``, comparisons: of the files where there are any."""
    from lightseg.benchmarks.report import against, bench
    from lightseg.benchmarks.selection import other_side

    images = None if args.images is None else str(args.images.resolve())
    save_to = None if args.json in (None, "-") else Path(args.json)
    if args.against is None:
        return bench(todo, protocol(args), cores(args), images, save_to, announce)
    files = [subject for subject in todo if subject.path is not None]
    other = other_side(args.against, args.device)
    return against(files or todo, other, protocol(args), cores(args), images, save_to, announce)


def counted(args: argparse.Namespace, artifacts: Sequence[Path], console: Console) -> int:
    """Exact counts, held against a budget or written into one; or the emulated processor. Exit code 1 on a problem."""
    from lightseg.benchmarks import counting_mode

    files = [*artifacts, *peers(args)]
    data: Any
    if args.counters or args.budget or args.write_budget:
        data, problems = counting_mode.count(files, args.device, args.budget, args.write_budget, console, announce)
        problems = [f"over budget: {line}" for line in problems]
    else:
        data, problems = counting_mode.emulated(files, console, announce)
    cli.emit_json(args.json, data)
    for line in problems:
        print(f"lightseg-bench: {line}", file=sys.stderr)
    return 1 if problems else 0


def peers(args: argparse.Namespace) -> list[Path]:
    return [Path(name) for name in args.peers.split(",")] if args.peers else []


def protocol(args: argparse.Namespace) -> Protocol:
    from dataclasses import replace

    from lightseg.benchmarks.latency import FULL, QUICK

    asked = {name: getattr(args, name) for name in ("samples", "seconds", "processes")}
    asked["restarts"] = args.processes
    return replace(QUICK if args.quick else FULL, **{name: v for name, v in asked.items() if v is not None})


def cores(args: argparse.Namespace) -> list[int]:
    from lightseg.benchmarks.environment import available_cores, quiet_cores
    from lightseg.errors import BadInput

    allowed = available_cores()
    if args.threads > len(allowed):
        raise BadInput(f"--threads {args.threads}: this process may use {len(allowed)} cores; take at most as many")
    if args.cores is None:
        return quiet_cores(args.threads)
    if len(args.cores) != args.threads or not set(args.cores) <= set(allowed):
        raise BadInput(f"--cores needs {args.threads} of {','.join(map(str, allowed))}, one for every thread")
    return list(args.cores)


def announce(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def finish(args: argparse.Namespace, report: Report, console: Console) -> int:
    """Print the table and the JSON; exit code 1 when a row failed."""
    from lightseg.benchmarks.tables import comparison_table, latency_table, machine, notes

    if report.comparisons:
        console.print(comparison_table(report.comparisons))
        console.print(machine(report), highlight=False, markup=False)
    if report.rows:
        console.print(latency_table(report.rows))
        for line in [machine(report), *notes(report.rows)]:
            console.print(line, highlight=False, markup=False)
    if args.json == "-":
        cli.emit_json("-", report.to_dict())
    for name, reason in report.failed.items():
        print(f"lightseg-bench: {name} failed: {reason}", file=sys.stderr)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
