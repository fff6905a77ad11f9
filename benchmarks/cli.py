"""lightseg-bench: how long an artifact or a model takes, and what it costs by counting."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lightseg import cli
from lightseg.benchmarks import modes
from lightseg.benchmarks.modes import peer_names
from lightseg.benchmarks.options import REMOTE
from lightseg.benchmarks.options import parser as parser

WIDTH = 180
"""Columns of the tables where nobody's terminal says how wide it is."""
MEASURING = (modes.timing, modes.browsing, modes.remote)
"""Modes whose rows have a verdict, and are written to ``--json FILE`` one by one."""


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
    if mode not in MEASURING or args.json == "-":  # these write their own file, row by row
        cli.emit_json(args.json, data)
    if args.report:
        from lightseg.benchmarks.page.render import write_report

        page, *_ = write_report(args.report, [*([data] if data else []), *earlier])
        modes.announce(f"look at {page}")
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
    if args.strict and (mode_of(args) not in MEASURING or args.against):
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
    if peer_names(args, True) and (mode_of(args) is not modes.timing or args.against):
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


def mode_of(args: argparse.Namespace) -> modes.Mode:
    """The one thing this call does."""
    if args.setup:
        return modes.setting_up
    if args.compare:
        return modes.comparing
    if args.profile:
        return modes.profiling
    if args.counters or args.budget or args.write_budget:
        return modes.counting
    if args.device == "arm64":
        return modes.emulating
    if args.device == "browser":
        return modes.browsing
    if args.device.startswith(REMOTE):
        return modes.remote
    return modes.timing if args.artifact or args.model or args.peers else modes.showing


def counts_only(args: argparse.Namespace) -> bool:
    return bool(args.counters or args.budget or args.write_budget or args.device == "arm64")


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


def known_peers(args: argparse.Namespace) -> None:
    """Refuse a name nobody knows before anything is exported. Errors: `UnknownName`."""
    from lightseg.benchmarks.peers import check_name

    for name in peer_names(args, False):
        check_name(name)


if __name__ == "__main__":
    sys.exit(main())
