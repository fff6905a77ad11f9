"""``lightseg-train --estimate``: one recipe, or all of them without ``--recipe``."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightseg.train.estimate import Part
    from lightseg.train.standins import Data

Tell = Callable[[str], None]


def estimate(args: argparse.Namespace, tell: Tell) -> tuple[str, dict[str, Any]]:
    """The tables and the same as JSON, with a line per part as it is done; ``all`` is the same as no recipe."""
    import os

    import torch

    from lightseg.errors import Unsupported
    from lightseg.train import recipe as recipes
    from lightseg.train.estimate_table import tables

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise Unsupported("--estimate times one process; start it without torchrun")
    torch.set_num_threads(args.threads)
    names = recipes.available() if args.recipe in (None, "all") else [args.recipe]
    rows: list[tuple[str, Part]] = []
    report: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for i, name in enumerate(names, 1):
            data = data_of(args, name, Path(folder), alone=args.recipe == name)
            tell(f"{i} of {len(names)}: {name}, data {data.words}")
            for part in timed(args, data, Path(folder), tell):
                rows.append((name, part))
                report.append({"recipe": name, "data": data.words, **part.to_dict()})
    return f"On {machine(args.threads)}. {tables(rows)}", {"machine": machine(args.threads), "parts": report}


def data_of(args: argparse.Namespace, name: str, nowhere: Path, alone: bool) -> Data:
    """The recipe with its data: those of ``--data``, which must be there where one recipe was asked for."""
    from lightseg.train import recipe as recipes
    from lightseg.train.standins import Data, real_or_standin

    recipe = recipes.load(name, args.overrides)
    if alone and args.data is not None:
        return Data(recipe, args.data, f"in {args.data}", args.count)
    return real_or_standin(recipe, args.data, nowhere, args.count)


def timed(args: argparse.Namespace, data: Data, nowhere: Path, tell: Tell) -> Iterator[Part]:
    from lightseg.train.estimate import estimate as parts_of
    from lightseg.train.run import Job
    from lightseg.train.world import processes

    with processes() as world:
        for part in parts_of(Job(data.recipe, data.folder, nowhere, world=world), data.count, args.seconds):
            shares = ", ".join(f"{name} {share:.0%}" for name, share in part.shares.items())
            tell(
                f"  {part.stage} at {part.height}x{part.width}: {part.images_per_second:.3g} images/s in batches of "
                f"{part.batch} ({shares}); {part.images:,} images in the schedule: {part.hours:,.1f} h"
            )
            yield part


def machine(threads: int) -> str:
    """The kind of machine in words: no name that identifies it."""
    import platform

    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    words = "one thread" if threads == 1 else f"{threads} threads"
    return f"{words} of a processor of {platform.machine()} with {torch.backends.cpu.get_cpu_capability()}"
