"""lightseg-bench: how long an artifact or a model takes, and what it costs by counting."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lightseg import cli

if TYPE_CHECKING:
    from rich.console import Console

    from lightseg.benchmarks.latency import Protocol
    from lightseg.benchmarks.report import Report
    from lightseg.benchmarks.subject import Subject

EXAMPLES = """\
  lightseg-bench out/sinet-lightseg-fp32.tflite          an artifact, with PyTorch eager beside it
  lightseg-bench --model all --to onnx,tflite --quick    export all five, measure everything, one process per row
  lightseg-bench --model sinet --threads 2 --json r.json raw samples and environment in a file
  lightseg-bench a.tflite --against b.tflite             which is faster, beyond this machine's noise
  lightseg-bench --model sinet --profile                 params, MACs and bytes per layer; nothing is timed
  lightseg-bench --profile out/sinet-lightseg-fp32.onnx  the same, counted again from the file

Times are of the runtime's call alone ("run"), in fresh pinned processes; load and first inference stand apart.
"""
WIDTH = 160
"""Columns of the tables where nobody's terminal says how wide it is."""


def main(argv: Sequence[str] | None = None) -> int:
    return cli.run(parser(), run, argv)


def parser() -> argparse.ArgumentParser:
    p = cli.command("lightseg-bench", "Measure artifacts and models, or count what they cost.", EXAMPLES)
    p.add_argument("artifact", nargs="*", type=Path, metavar="ARTIFACT", help="files written by lightseg-export")
    cli.add_model(p, many=True)
    p.add_argument("--to", metavar="TARGET[,…]", help="with --model: export first, measure the files too; or all")
    p.add_argument("--precision", default="fp32", help="of what --to exports (default fp32)")
    p.add_argument("--out", type=Path, metavar="DIR", help="where --to keeps its artifacts (default: nowhere)")
    p.add_argument("--input-size", type=cli.size, metavar="HxW", help="with --model (default: the published size)")
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default cpu; cuda runs PyTorch eager only")
    cli.add_threads(p)
    p.add_argument(
        "--cores", type=core_list, metavar="N[,…]", help="pin to these (default: the quietest, one a thread)"
    )
    p.add_argument("--quick", action="store_true", help="200 samples and 2 s in one process, not 500 and 5 s in three")
    p.add_argument("--samples", type=cli.positive, metavar="N", help="at least this many timed runs in every process")
    p.add_argument("--seconds", type=seconds, metavar="S", help="and at least this long")
    p.add_argument(
        "--processes", type=cli.positive, metavar="N", help="fresh processes per row, or restarts of a comparison"
    )
    p.add_argument(
        "--images", type=Path, metavar="DIR", help="photographs to rotate through (default: the packaged one)"
    )
    p.add_argument("--peers", metavar="FILE[,…]", help="other people's .tflite files, measured in the same run")
    p.add_argument("--against", metavar="WHAT", help="compare with an artifact, a peer's file or a model, taking turns")
    p.add_argument("--profile", action="store_true", help="count params, MACs and bytes per layer; time nothing")
    cli.add_json(p)
    return p


def seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 3600 seconds")
    return value


def core_list(text: str) -> list[int]:
    if not all(part.isdigit() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of core numbers, for instance 0,1")
    return sorted({int(part) for part in text.split(",")})


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    if not args.artifact and not args.model and not args.peers:
        parser().error("nothing to measure; name an artifact file, or a model with --model sinet")
    if args.to and not args.model:
        parser().error("--to exports a model; name it with --model")
    to_file = not (sys.stderr if args.json == "-" else sys.stdout).isatty()
    console = Console(stderr=args.json == "-", width=WIDTH if to_file else None)
    if args.profile:
        from lightseg.benchmarks.profile import profile

        cli.emit_json(args.json, profile(args.artifact, models(args), args.input_size, console))
        return 0
    if args.device == "cuda":
        from lightseg.benchmarks.cuda import require_cuda

        require_cuda()
    with exported(args) as artifacts:
        report = measured(args, subjects(args, artifacts))
    return finish(args, report, console)


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
    peers = [peer_subject(Path(name)) for name in args.peers.split(",")] if args.peers else []
    return grouped(eager, artifact_subjects(artifacts, args.device, args.weights), peers)


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
