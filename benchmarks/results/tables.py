"""Results as tables for a terminal. Published and counted figures stand in columns of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from lightseg.benchmarks.counting.cost import Cost
from lightseg.benchmarks.timing.environment import UNREADABLE
from lightseg.benchmarks.timing.latency import Boundary
from lightseg.benchmarks.timing.measure import Row

if TYPE_CHECKING:
    from lightseg.benchmarks.results.report import Report
    from lightseg.benchmarks.timing.stats import Interval
    from lightseg.benchmarks.timing.versus import Comparison
    from lightseg.spec import ModelSpec

STYLE = {"PUBLISHABLE": "green", "NOISY": "yellow", "INVALID": "red"}
MISSING = "—"


def latency_table(rows: Sequence[Row]) -> Table:
    """Milliseconds: load and first inference (medians over processes), then the steady state of the run alone."""
    table = Table(title="measured, milliseconds", title_justify="left", box=box.SIMPLE_HEAD)
    extra = [name for name, value in EXTRA.items() if any(value(row) for row in rows)]
    for name in ("model", "runtime"):
        table.add_column(name, no_wrap=True)
    numbers = ["input", "threads", "load", "first", "run p50", "±", "p90", "p99", "min", "MAD", "CPU p50", "samples"]
    for name in numbers + extra:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    for row in rows:
        table.add_row(*_cells(row, extra))
    return table


def _cells(row: Row, extra: Sequence[str]) -> list[str | Text]:
    run, shape = row.run, row.subject.shape
    precision = f" {row.subject.precision}" if row.subject.precision not in ("", "fp32") else ""
    cells: list[str | Text] = [
        row.subject.label,
        row.subject.runtime + precision,
        "x".join(map(str, shape[2:])) if shape[0] == 1 else "x".join(map(str, shape)),
        str(row.threads),
        _median(row, "load"),
        _median(row, "first"),
        _ms(run.p50),
        _half_width(row),
        *(_ms(v) for v in (run.p90, run.p99, run.min, run.mad)),
        _median(row, "run_cpu"),
        str(run.count),
    ]
    cells += [EXTRA[name](row) or MISSING for name in extra]
    return [*cells, Text(row.verdict, STYLE[row.verdict])]


def machine(report: Report) -> str:
    """One line of the machine the numbers hold for."""
    facts = report.environment
    cores = ",".join(map(str, report.cores))
    guest = " (virtual machine)" if facts["virtual_machine"] else ""
    load = facts["load_average"]
    busy = f"load {load[0]:.2f}" if isinstance(load, list) else f"load {load}"
    where = f"{facts['device']}: " if "device" in facts else _gpu(facts)
    return f"{where}{facts['cpu']}{guest}, pinned to core {cores}, governor {facts['governor']}, {busy} at the start"


def _gpu(facts: Mapping[str, Any]) -> str:
    """Name, driver and clocks of the GPU the rows ran on; empty where they ran on none."""
    gpu, state = facts.get("gpu"), facts.get("gpu_state", {})
    if gpu is None:
        return ""
    why = state["throttling"] if isinstance(state["throttling"], str) else ", ".join(state["throttling"]) or "none"
    clocks = f"{state['clock_mhz']} of {gpu['max_clock_mhz']} MHz, reasons for a lower clock: {why}"
    return f"{gpu['name']}, driver {gpu['driver']}, {clocks}; host: "


def notes(rows: Sequence[Row]) -> list[str]:
    """What stands under the table: the reasons of every verdict that is not PUBLISHABLE, and labels."""
    lines = ["±: half of the 95 % interval of the run's median"] if rows else []
    lines += [f"{row.subject.name}: {row.verdict}, {'; '.join(row.reasons)}" for row in rows if row.reasons]
    lines += [f"{row.subject.name}: {row.subject.note}" for row in rows if row.subject.note]
    if any(row.subject.device == "cuda" for row in rows):
        lines.append(
            "run: by the host's clock, until the GPU is done; device: between two CUDA events around the same call; "
            "transfer: pinned memory, there and back, in a pass of its own; there, back: by CUDA events; "
            "images/s: derived from the run's median"
        )
    lines += [f"{row.subject.name}: {told}" for row in rows if (told := _fallback(row))]
    if any(row.latency("image_to_mask") for row in rows):
        lines.append(
            "to mask: a photo in, its mask out: resize, normalise, run, enlarge, argmax, in a pass of its own; "
            "MB: largest resident memory, in a process of its own"
        )
    if any(row.run.p99 is None for row in rows):
        lines.append(f"{MISSING}: the samples do not support this percentile (p90 needs 36, p99 needs 368)")
    return list(dict.fromkeys(lines))


def _fallback(row: Row) -> str:
    """Nodes that another provider than the named one took."""
    told = row.details.get("fallback nodes", "0")
    return "" if told in ("0", UNREADABLE) else f"nodes that fell back to another provider: {told}"


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """A's time over B's. The noise floor is how far B lay from itself, measured the same way just before."""
    table = Table(title="compared, taking turns on the same cores", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("A", "B", "A is"):
        table.add_column(name, overflow="fold")
    for name in ("A / B", "95 % interval", "noise floor", "CPU time A / B", "restarts"):
        table.add_column(name, justify="right", no_wrap=True)
    for comparison in comparisons:
        duel = comparison.duel
        names = duel.first.name, duel.second.name, comparison.answer
        numbers = f"{duel.ratio():.3f}", _ends(duel.interval()), f"{comparison.floor:.1%}"
        table.add_row(*names, *numbers, _ends(duel.interval("run_cpu")), str(len(duel.restarts)))
    return table


def _ends(interval: Interval) -> str:
    return f"{interval[0]:.3f} … {interval[1]:.3f}"


def layer_table(cost: Cost) -> Table:
    """Counted per operator, in execution order; views, which cost nothing, are left out."""
    table = Table(title=f"{cost.source}: counted per operator", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("layer", "operator", "output"):
        table.add_column(name, overflow="fold")
    for name in ("params", "MACs", "share", "bytes moved"):
        table.add_column(name, justify="right", no_wrap=True)
    for layer in (layer for layer in cost.layers if layer.kind != "view"):
        shape = "×".join(map(str, layer.shape))
        share = f"{layer.macs / cost.macs:.1%}" if layer.macs else ""
        moved = f"{layer.bytes_read + layer.bytes_written:,}"
        table.add_row(layer.name, layer.kind, shape, _count(layer.params), _count(layer.macs), share, moved)
    return table


def total_table(costs: Sequence[Cost], spec: ModelSpec | None) -> Table:
    """Totals of every source beside the published figure, which is a different kind of number."""
    table = Table(title="counted", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("")
    for cost in costs:
        table.add_column(cost.source, justify="right", overflow="fold")
    published = {} if spec is None else spec.published
    if published:
        table.add_column("published", justify="right")
        table.add_column("source", overflow="fold")
    for label, key, values in _totals(costs):
        figure = published.get(key)
        shown = [_count(v) or "0" for v in values]
        source = "" if figure is None else "; ".join(filter(None, (figure.source, figure.note)))
        table.add_row(label, *shown, *([f"{figure.value:,.0f}" if figure else "", source] if published else []))
    return table


def _totals(costs: Sequence[Cost]) -> list[tuple[str, str, list[int]]]:
    return [
        ("params", "params", [c.params for c in costs]),
        ("MACs (conv + linear)", "macs", [c.macs for c in costs]),
        ("FLOPs (= 2 × MACs)", "", [c.flops for c in costs]),
        ("operators", "", [sum(c.ops.values()) for c in costs]),
        ("peak activation bytes", "", [c.peak_activation_bytes for c in costs]),
        ("bytes moved, unfused", "", [c.bytes_moved for c in costs]),
    ]


def _count(value: int) -> str:
    return f"{value:,}" if value else ""


def _half_width(row: Row) -> str:
    low, high = row.interval
    share = (high - low) / 2 / row.run.median
    return f"{share:.1%}" if share < 1 else "> 100%"


def _median(row: Row, boundary: Boundary) -> str:
    latency = row.latency(boundary)
    return _ms(None if latency is None else latency.median)


def _apart(row: Row, boundary: Boundary) -> str:
    return _median(row, boundary) if row.latency(boundary) else ""


def _megabytes(row: Row) -> str:
    peak = row.memory.get("peak_memory_bytes")
    return f"{peak / 1e6:.0f}" if peak else ""


def _millijoules(row: Row) -> str:
    told = [one.energy["joules_per_run"] * 1e3 for one in row.processes if "joules_per_run" in one.energy]
    return f"{sorted(told)[len(told) // 2]:.3g}" if told else ""


def _images_a_second(row: Row) -> str:
    """Derived from the median of the run, without copies; shown for batches and accelerators."""
    wanted = row.subject.shape[0] > 1 or row.subject.device == "cuda"
    return f"{row.subject.shape[0] / row.run.median * 1e9:,.0f}" if wanted else ""


def _copies(row: Row, key: str) -> str:
    told = [ns for process in row.processes for ns in process.apart["transfer"].get(key, ())]
    return _ms(sorted(told)[len(told) // 2]) if told else ""


EXTRA: dict[str, Callable[[Row], str]] = {
    "images/s": _images_a_second,
    "device p50": lambda row: _apart(row, "device"),
    "transfer": lambda row: _apart(row, "transfer"),
    "there": lambda row: _copies(row, "there_ns"),
    "back": lambda row: _copies(row, "back_ns"),
    "to mask": lambda row: _apart(row, "image_to_mask"),
    "MB": _megabytes,
    "mJ": _millijoules,
}
"""Columns that are shown where a row has them; each is measured apart from the run."""


def _ms(nanoseconds: float | None) -> str:
    if nanoseconds is None:
        return MISSING
    milliseconds = nanoseconds / 1e6
    return (
        f"{milliseconds:.0f}"
        if milliseconds >= 1000
        else f"{milliseconds:.3g}"
        if milliseconds < 100
        else f"{milliseconds:.1f}"
    )
