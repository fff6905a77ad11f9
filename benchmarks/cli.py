"""lightseg-bench: how long an artifact or a model takes, and what it costs by counting."""

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
from lightseg.benchmarks.options import REMOTE
from lightseg.benchmarks.options import parser as parser

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 180
"""Columns of the tables where nobody's terminal says how wide it is."""

Outcome = tuple[Any, Sequence[str]]
"""What a mode found, as data, and a line for everything that makes the exit status 1."""
Mode = Callable[[argparse.Namespace, "Console"], Outcome]


def main(argv: Sequence[str] | None = None) -> int:
    return cli.run(parser(), run, argv)


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    check(args)
    check_device(args)
    known_peers(args)
    earlier = earlier_results(args)
    to_file = not (sys.stderr if args.json == "-" else sys.stdout).isatty()
    console = Console(stderr=args.json == "-", width=WIDTH if to_file else None)
    mode = mode_of(args)
    data, problems = mode(args, console)
    if mode not in (timing, browsing, remote) or args.json == "-":  # these write their own file, row by row
        cli.emit_json(args.json, data)
    if args.report:
        from lightseg.benchmarks.page.render import write_report

        page, *_ = write_report(args.report, [*([data] if data else []), *earlier])
        announce(f"look at {page}")
    problems = [*problems, *(not_publishable(data) if args.strict else ())]
    for line in problems:
        print(f"lightseg-bench: {line}", file=sys.stderr)
    return 1 if problems else 0


def not_publishable(data: Any) -> Iterator[str]:
    """A line for every measured row that nobody should quote."""
    for row in data["rows"]:
        if row["verdict"] != "PUBLISHABLE":
            name = f"{row['subject']['label']}, {row['subject']['runtime']}"
            yield f"{name} is {row['verdict']}: {'; '.join(row['reasons'])}"


def check(args: argparse.Namespace) -> None:
    """Exit with status 2 for options that do not go together."""
    error = parser().error
    something = bool(args.artifact or args.model or args.peers)
    if not (something or args.setup or args.compare or args.add):
        error("nothing to measure; name an artifact file, or a model with --model sinet")
    if args.strict and (mode_of(args) not in (timing, browsing, remote) or args.against):
        error("--strict judges measured rows; this measures none")
    if args.to and not args.model:
        error("--to exports a model; name it with --model")
    if args.out and not args.to:
        error("--out keeps what --to exports; add --to tflite, for instance")
    if args.input_size and not (args.model or peer_names(args, True)):
        error("--input-size is for --model: an exported file has its own")
    if args.precision != parser().get_default("precision") and not (args.to or args.device == "cuda"):
        error("--precision is of what --to exports, or of PyTorch on --device cuda; add --to tflite, for instance")
    if "int8" in args.precision:
        error("int8 is found with photographs: lightseg-export --precision int8 --calibration DIR, then name the files")
    if args.roofline and not args.profile:
        error("--roofline sets counts against this machine's limits: add --profile")
    if args.add and not args.report:
        error("--add shows earlier results on a page; say where with --report DIR")
    if args.report and (args.profile or args.setup or args.compare):
        error("--report shows latencies, exact counts and the emulated processor, not this")
    if counts_only(args) and not (args.artifact or args.to or args.peers or args.setup):
        error("counts are of files; name an exported one, or add --to tflite to --model")
    if args.resume and args.json in (None, "-"):
        error("--resume goes on with a file; name it with --json FILE")
    if args.against and len(args.thread_counts) > 1:
        error("--against compares on one number of threads; give --threads one")
    if args.against and args.resume:
        error("--resume goes on with rows, and --against makes comparisons; leave --resume out")
    if peer_names(args, True) and (mode_of(args) is not timing or args.against):
        error("these --peers are architectures in PyTorch: --device cpu or cuda times them, and nothing else")
    if counts_only(args) and (args.thread_counts != [1] or args.against):
        error("instructions are counted on one thread, file by file; leave --threads and --against out")


def check_device(args: argparse.Namespace) -> None:
    """Exit with status 2 for options that do not go with the device."""
    error = parser().error
    if args.setup and args.device not in ("arm64", "browser"):
        error("--setup belongs to --device arm64 and --device browser")
    if args.device == "browser" and args.against:
        error("--against takes turns with processes of this machine; compare browser results with --compare")
    if args.chromium and args.device != "browser":
        error("--chromium belongs to --device browser")
    if args.benchmark_model and not args.device.startswith("adb:"):
        error("--benchmark-model belongs to --device adb:SERIAL")
    if args.profile and args.device != "cpu":
        error("--profile counts and times nothing on a device; leave --device out")
    if args.device.startswith(REMOTE) and (args.against or args.report):
        error("--against and --report are for rows measured here; write --json FILE, and show it with --report --add")
    if (args.graphs or "tf32" in args.precision) and args.device != "cuda":
        error("--graphs and --precision tf32 are of NVIDIA GPUs: add --device cuda")
    if (args.batch or args.torch) and args.device not in ("cpu", "cuda"):
        error("--batch and --torch belong to --device cpu and --device cuda")
    if args.device == "cuda" and peer_names(args, False):
        error("these --peers are .tflite files, which nothing runs on a GPU here; measure them with --device cpu")


def mode_of(args: argparse.Namespace) -> Mode:
    """The one thing this call does."""
    if args.setup:
        return setting_up
    if args.compare:
        return comparing
    if args.profile:
        return profiling
    if args.counters or args.budget or args.write_budget:
        return counting
    if args.device == "arm64":
        return emulating
    if args.device == "browser":
        return browsing
    if args.device.startswith(REMOTE):
        return remote
    return timing if args.artifact or args.model or args.peers else showing


def counts_only(args: argparse.Namespace) -> bool:
    return bool(args.counters or args.budget or args.write_budget or args.device == "arm64")


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


def earlier_results(args: argparse.Namespace) -> list[Any]:
    """For the page, read before anything is measured: a page that cannot be made is known early."""
    if not args.report:
        return []
    from lightseg.benchmarks.page.render import require_jinja
    from lightseg.benchmarks.page.view import read_results
    from lightseg.files import require_folder

    require_jinja()
    require_folder(args.report, "--report DIR")
    return read_results([Path(name) for name in args.add.split(",")] if args.add else [])


def models(args: argparse.Namespace) -> list[str]:
    return cli.model_names(args.model, "") if args.model else []


def peers(args: argparse.Namespace) -> list[Path]:
    from lightseg.benchmarks.peers import peer_files

    return peer_files(peer_names(args, False), announce)


def peer_names(args: argparse.Namespace, architectures: bool) -> list[str]:
    """The peers that are architectures of a package, or the others, which are files."""
    from lightseg.benchmarks.architectures import ARCHITECTURES

    return [name for name in (args.peers or "").split(",") if name and (name in ARCHITECTURES) is architectures]


def known_peers(args: argparse.Namespace) -> None:
    """Refuse a name nobody knows before anything is exported. Errors: `UnknownName`."""
    from lightseg.benchmarks.peers import check_name

    for name in peer_names(args, False):
        check_name(name)


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
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
