"""The estimates of several recipes as Markdown; what was measured here, and, apart, what a GPU is predicted to take."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from lightseg.train import gpu
from lightseg.train.estimate import PARTS, Part

Row = tuple[str, Part]
"""A recipe's name and one of its parts."""
Stage = tuple[str, list[Part]]

MEASURED = ("recipe", "stage", "input", "steps timed", "images/s", *PARTS, "images in the schedule", "hours")
PREDICTED = ("recipe", "stage", "G MACs an image, forward", "M outputs an image, forward", "hours at best", "at worst")


def tables(rows: Sequence[Row]) -> str:
    """Two tables, one line per stage of a recipe; a stage that trains at several sizes is put together."""
    stages = [
        (recipe, [p for _, p in parts]) for (recipe, _), parts in groupby(rows, key=lambda row: (row[0], row[1].stage))
    ]
    slow, fast = gpu.rates()
    clock = (
        "seconds of CPU time" if all(part.cpu_time for _, part in rows) else "seconds on the wall, the machine as it is"
    )
    return "\n".join(
        (
            f"Measured here, in {clock}:\n",
            *_markdown(MEASURED, [_measured(s) for s in stages]),
            "\nPredicted for one RTX 3090 from published rates of other small networks, if the data keep up "
            f"({fast / 1e9:.1f} G convolution outputs/s at best, {slow / 1e9:.1f} at worst):\n",
            *_markdown(PREDICTED, [_predicted(s) for s in stages]),
        )
    )


def _measured(stage: Stage) -> tuple[str, ...]:
    recipe, parts = stage
    hours, images = sum(p.hours for p in parts), sum(p.images for p in parts)
    shares = [sum(p.shares[name] * p.hours for p in parts) / hours for name in PARTS]
    batches, steps = sorted({str(p.batch) for p in parts}, key=int), sum(p.steps for p in parts)
    timed = f"{steps} of {batches[0] if len(batches) == 1 else f'{batches[0]} to {batches[-1]}'}"
    rate = f"{images / hours / 3600:.3g}"
    return (
        recipe,
        parts[0].stage,
        _sizes(parts),
        timed,
        rate,
        *(f"{s:.0%}" for s in shares),
        f"{images:,}",
        _hours(hours),
    )


def _predicted(stage: Stage) -> tuple[str, ...]:
    recipe, parts = stage
    images = sum(p.images for p in parts)
    macs, outputs = (sum(getattr(p, name) * p.images for p in parts) / images for name in ("macs", "outputs"))
    best, worst = (sum(p.gpu_hours[i] for p in parts) for i in (0, 1))
    return recipe, parts[0].stage, f"{macs / 1e9:.3g}", f"{outputs / 1e6:.3g}", _hours(best), _hours(worst)


def _sizes(parts: Sequence[Part]) -> str:
    ordered = [f"{p.height}×{p.width}" for p in sorted(parts, key=lambda p: p.height)]
    return ordered[0] if len(ordered) == 1 else f"{len(ordered)} from {ordered[0]} to {ordered[-1]}"


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---" if name in ("recipe", "stage", "input", "steps timed") else "---:" for name in head]
    return ["| " + " | ".join(line) + " |" for line in (head, rule, *rows)]
