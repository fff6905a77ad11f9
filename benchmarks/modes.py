"""What one call of ``lightseg-bench`` does: each mode takes the options and the terminal, and returns what it found."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightseg import cli

if TYPE_CHECKING:
    from rich.console import Console

Outcome = tuple[Any, Sequence[str]]
"""What a mode found, as data, and a line for everything that makes the exit status 1."""
Mode = Callable[[argparse.Namespace, "Console"], Outcome]


def setting_up(args: argparse.Namespace, console: Console) -> Outcome:
    if args.device == "browser":
        from lightseg.benchmarks.browser import runtimes

        folder = runtimes.default_folder()
        runtimes.set_up(folder, announce)
        return {"folder": str(folder), "packages": {p.name: p.version for p in runtimes.packages()}}, ()
    from lightseg.benchmarks.counting.mode import set_up

    return set_up(announce), ()


def comparing(args: argparse.Namespace, console: Console) -> Outcome:
    """Two earlier results: what changed, and what is noise."""
    from lightseg.benchmarks.results.changes import compare_files
    from lightseg.benchmarks.results.changes_table import changes_table, lines

    changes = compare_files(*args.compare)
    console.print(changes_table(changes))
    for line in lines(changes):
        console.print(line, highlight=False, markup=False)
    return changes.to_dict(), ()


def profiling(args: argparse.Namespace, console: Console) -> Outcome:
    from lightseg.benchmarks.profile import profile

    with exported(args) as artifacts:
        if not args.roofline:
            return profile(artifacts, models(args), args.input_size, console), ()
        from lightseg.benchmarks.timing.mode import cores

        return profile(artifacts, models(args), args.input_size, console, cores(args, 1)), ()


def counting(args: argparse.Namespace, console: Console) -> Outcome:
    """Exact counts, held against a budget or written into one."""
    from lightseg.benchmarks.counting import mode as counting_mode

    with exported(args) as artifacts:
        files = [*artifacts, *peers(args)]
        data, breaches = counting_mode.count(
            files, args.device, args.budget, args.write_budget, console, announce, not args.no_instructions
        )
    return data, [f"over budget: {line}" for line in breaches]


def emulating(args: argparse.Namespace, console: Console) -> Outcome:
    from lightseg.benchmarks.counting import mode as counting_mode

    with exported(args) as artifacts:
        return counting_mode.emulated([*artifacts, *peers(args)], console, announce)


def browsing(args: argparse.Namespace, console: Console) -> Outcome:
    """Rows in a real browser; a file whose answer is wrong there makes the exit status 1."""
    from lightseg.benchmarks.browser import mode

    place = mode.find_place(args.chromium)
    args.to = args.to or (mode.TARGETS if args.model else None)
    with exported(args) as artifacts:
        return mode.browse(args, place, mode.subjects(artifacts, peers(args)), console, announce)


def timing(args: argparse.Namespace, console: Console) -> Outcome:
    from lightseg.benchmarks.timing import mode as timing_mode
    from lightseg.benchmarks.timing.proofs import with_proofs

    facts = gpu_environment(args) if args.device == "cuda" else None
    with exported(args) as artifacts, tempfile.TemporaryDirectory(prefix="lightseg-proofs-") as folder:
        subjects = timing_mode.subjects(args, models(args), artifacts, peers(args), announce)
        subjects = with_proofs(subjects, Path(folder), announce)
        report = timing_mode.measured(args, subjects, announce, facts=facts)
    timing_mode.show(report, console)
    return report.to_dict(), [f"{name} failed: {reason}" for name, reason in report.failed.items()]


def gpu_environment(args: argparse.Namespace) -> dict[str, Any]:
    """What this machine is, with its GPU. Errors: `Unsupported` in one line where there is none."""
    from lightseg.benchmarks.cuda.nvidia import ask, gpu_facts
    from lightseg.benchmarks.cuda.place import require_cuda, uuid
    from lightseg.benchmarks.timing.environment import available_cores, environment

    require_cuda()
    return {**environment(args.cores or available_cores()), **gpu_facts(partial(ask, gpu=uuid()))}


def remote(args: argparse.Namespace, console: Console) -> Outcome:
    """Rows on a device of its own; what went wrong there makes the exit status 1."""
    from lightseg.benchmarks.remote import mode

    with exported(args) as artifacts:
        report = mode.measured(args, mode.subjects(args, artifacts, peers(args)), announce)
    mode.show(report, console)
    return report.to_dict(), mode.problems(report)


def showing(args: argparse.Namespace, console: Console) -> Outcome:
    """Only earlier results are shown."""
    return None, ()


def models(args: argparse.Namespace) -> list[str]:
    return cli.model_names(args.model, "") if args.model else []


def peers(args: argparse.Namespace) -> list[Path]:
    from lightseg.benchmarks.peers import peer_files

    return peer_files(peer_names(args, False), announce)


def peer_names(args: argparse.Namespace, architectures: bool) -> list[str]:
    """The peers that are architectures of a package, or the others, which are files."""
    from lightseg.benchmarks.architectures import ARCHITECTURES

    return [name for name in (args.peers or "").split(",") if name and (name in ARCHITECTURES) is architectures]


@contextmanager
def exported(args: argparse.Namespace) -> Iterator[list[Path]]:
    """The artifacts given and those ``--to`` makes; without ``--out`` the latter go when the block ends."""
    with tempfile.TemporaryDirectory(prefix="lightseg-bench-") as temporary:
        paths = list(args.artifact)
        if args.to:
            from lightseg.benchmarks.selection import export_all
            from lightseg.benchmarks.timing.ways import CUDA_FILES, ways
            from lightseg.export.pipeline import Request

            out = args.out or Path(temporary)
            several = any(batch > 1 for batch in args.batch)
            requests = [Request(p, args.input_size, dynamic=several) for p in ways(args).written]
            among = [suffix[1:] for suffix in CUDA_FILES] if args.device == "cuda" else None
            paths += export_all(models(args), args.weights, args.to, requests, out, announce, among)
        yield paths


def announce(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
