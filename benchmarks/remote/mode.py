"""Timing on a device: from the options to rows measured there."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightseg.benchmarks.remote.device import Device
from lightseg.benchmarks.remote.link import Link
from lightseg.benchmarks.report import Report, bench
from lightseg.benchmarks.timing_mode import protocol
from lightseg.errors import BadInput

if TYPE_CHECKING:
    from lightseg.benchmarks.subject import Subject


def subjects(args: argparse.Namespace, artifacts: Sequence[Path], peers: Sequence[Path]) -> list[Subject]:
    """Files only: the device has no PyTorch. Errors: `BadInput` where there is none; those of `artifact_subjects`."""
    from lightseg.benchmarks.peers import peer_subject
    from lightseg.benchmarks.selection import artifact_subjects

    found = [one for one in artifact_subjects(artifacts, "cpu", args.weights) if one.path is not None]
    found += [peer_subject(path) for path in peers]
    if not found:
        raise BadInput(f"--device {args.device} measures files; name one, or add --to tflite to --model")
    return found


def measured(args: argparse.Namespace, todo: Sequence[Subject], announce: Callable[[str], None]) -> Report:
    """Rows for all of ``todo``, there. Errors: `Unreachable` and others in one line, before the first row."""
    link = link_of(args)
    images = None if args.images is None else str(args.images.resolve())
    save_to = None if args.json in (None, "-") else Path(args.json)
    with Device(link, args.remote_python, args.remote_dir) as device:
        told = [device.describe(n, args.cores and args.cores[:n]) for n in args.thread_counts]
        sets, facts = [cores for cores, _ in told], told[-1][1]
        how = protocol(args)
        return bench(todo, how, sets, images, save_to, announce, args.resume, facts, one=device.measure)


def link_of(args: argparse.Namespace) -> Link:
    """Errors: `BadInput` for an address that is none."""
    from lightseg.benchmarks.remote import ssh

    return ssh.parse(args.device, args.ssh_config)
