"""Timing on a device: from the options to rows measured there, and their tables."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightseg.benchmarks.remote.adb import Adb, phone
from lightseg.benchmarks.remote.benchmark_model import Tool
from lightseg.benchmarks.remote.device import Device
from lightseg.benchmarks.remote.link import Link
from lightseg.benchmarks.remote.table import notes, phone_line, summary_table
from lightseg.benchmarks.results.report import Report, bench
from lightseg.benchmarks.timing import mode as timing_mode
from lightseg.benchmarks.timing.environment import commit
from lightseg.benchmarks.timing.process import Failed, Lost
from lightseg.errors import BadInput

if TYPE_CHECKING:
    from rich.console import Console

    from lightseg.benchmarks.timing.subject import Subject


def subjects(args: argparse.Namespace, artifacts: Sequence[Path], peers: Sequence[Path]) -> list[Subject]:
    """Files only: the device has no PyTorch. Errors: `BadInput` where there is none; those of `artifact_subjects`."""
    from lightseg.benchmarks.peers import peer_subject
    from lightseg.benchmarks.selection import artifact_subjects

    found = [one for one in artifact_subjects(artifacts, args.weights) if one.path is not None]
    found += [peer_subject(path) for path in peers]
    if not found:
        raise BadInput(f"--device {args.device} measures files; name one, or add --to tflite to --model")
    return found


def measured(args: argparse.Namespace, todo: Sequence[Subject], announce: Callable[[str], None]) -> Report:
    """Rows for all of ``todo``, there. Errors: `Unreachable` and others in one line, before the first row."""
    link = link_of(args)
    if isinstance(link, Adb):
        link.require()
    tool_given = args.benchmark_model is not None
    with Device(link, args.remote_python, args.remote_dir, python_optional=isinstance(link, Adb)) as device:
        if isinstance(link, Adb) and (tool_given or not device.facts):
            return summarised(args, todo, link, Tool(link, device.folder, args.benchmark_model), announce)
        told = [device.describe(n, args.cores and args.cores[:n]) for n in args.thread_counts]
        sets, facts = [cores for cores, _ in told], told[-1][1]
        if isinstance(link, Adb):
            facts |= {name: value for name, value in phone(link).items() if name not in facts}
        how, images = timing_mode.protocol(args), None if args.images is None else str(args.images.resolve())
        return bench(todo, how, sets, images, save_to(args), announce, args.resume, facts, one=device.measure)


def summarised(
    args: argparse.Namespace, todo: Sequence[Subject], link: Adb, tool: Tool, announce: Callable[[str], None]
) -> Report:
    """The same by the phone's ``benchmark_model``; what is finished is in the file, and stays when the phone goes."""
    if args.resume:
        raise BadInput("--resume goes on with rows sampled there, and benchmark_model tells summaries; leave it out")
    report, how = Report([], phone_facts(link)), timing_mode.protocol(args)
    rows = [(subject, threads) for subject in todo for threads in args.thread_counts]
    for number, (subject, threads) in enumerate(rows, 1):
        name = subject.name + (f", {threads} threads" if threads > 1 else "")
        announce(f"measuring {name} by benchmark_model ({number} of {len(rows)})")
        try:
            report.summaries.append(tool.measure(subject, how, threads))
        except Failed as error:
            left = len(rows) - number if isinstance(error, Lost) else 0
            report.failed[name] = str(error) + (f"; {left} more not measured" if left else "")
            if isinstance(error, Lost):
                break
        finally:
            where = save_to(args)
            if where is not None:
                report.save(where)
    return report


def phone_facts(link: Adb) -> dict[str, Any]:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {**phone(link), "device": link.name, "python": "none", "versions": {}, "commit": commit(), "time": now}


def show(report: Report, console: Console) -> None:
    timing_mode.show(report, console)
    if report.summaries:
        console.print(summary_table(report.summaries))
        for line in [phone_line(report.environment), *notes(report.summaries)]:
            console.print(line, highlight=False, markup=False)


def problems(report: Report) -> list[str]:
    """What makes the exit status 1: rows without a number, and wrong answers."""
    failed = [f"{name} failed: {reason}" for name, reason in report.failed.items()]
    rows = [(row.subject.name, row.verdict, row.reasons) for row in report.rows]
    rows += [(one.subject.name, one.verdict, one.reasons) for one in report.summaries]
    return failed + [f"{name} is INVALID: {'; '.join(why)}" for name, verdict, why in rows if verdict == "INVALID"]


def save_to(args: argparse.Namespace) -> Path | None:
    return None if args.json in (None, "-") else Path(args.json)


def link_of(args: argparse.Namespace) -> Link:
    """Errors: `BadInput` for an address that is none."""
    from lightseg.benchmarks.remote import adb, ssh

    return adb.parse(args.device) if args.device.startswith("adb:") else ssh.parse(args.device, args.ssh_config)
