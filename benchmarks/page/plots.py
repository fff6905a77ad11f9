"""Plots as SVG text: drawn here, so that the page needs no library and no network. Colours are CSS classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise
from math import ceil, floor, log10

from lightseg.benchmarks.page.view import Group, Line
from lightseg.benchmarks.timing.subject import PEER

WIDTH = 460
LEFT = 146
BAR, GAP = 20, 9
STRIP = 34
BINS = 90
TICKS = (1.0, 2.0, 5.0)
FINE = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)


def colour(runtime: str) -> str:
    """The CSS class of a runtime, the same in every plot."""
    names = {"PyTorch eager": "c0", "onnx": "c1", "tflite": "c2", "coreml": "c3", "openvino": "c4", "ncnn": "c5"}
    return names.get(runtime.split(" ")[0] if runtime != "PyTorch eager" else runtime, "c6")


def bars(group: Group) -> str:
    """Medians from zero, with the 95 % interval as a whisker; rows that are not PUBLISHABLE are pale.

    A diamond is the processor time of the run, where that is less: what it would take with the core to itself.
    """
    room = WIDTH - LEFT - 118
    longest = max(max(line.p50, line.interval[1]) for line in group.lines)
    scale = room / longest
    parts = []
    for index, line in enumerate(group.lines):
        top = index * (BAR + GAP) + 4
        low, high = (LEFT + min(max(end, 0) * scale, room) for end in line.interval)
        middle, end = top + BAR / 2, LEFT + line.p50 * scale
        gain = group.gain(line)
        label = f"{milliseconds(line.p50)} ms" + (f"  ×{gain:.1f}" if gain else "")
        state = "" if line.verdict == "PUBLISHABLE" else " rough"
        parts += [
            f'<text class="name" x="{LEFT - 8}" y="{middle + 4:.1f}" text-anchor="end">{escape(short(line))}</text>',
            f'<rect class="{colour(line.runtime)}{state}" x="{LEFT}" y="{top}" width="{end - LEFT:.1f}" '
            f'height="{BAR}" rx="3"><title>{escape(tooltip(line))}</title></rect>',
            f'<path class="whisker" d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8M{high:.1f} '
            f'{middle - 4}v8"/>',
            f'<text class="value" x="{max(end, high) + 8:.1f}" y="{middle + 4:.1f}">{label}</text>',
        ]
        if line.threads == 1 and line.cpu is not None and line.cpu < 0.97 * line.p50:
            x = LEFT + line.cpu * scale
            shape = f"M{x:.1f} {middle - 6}l5 6l-5 6l-5-6z"
            parts.append(
                f'<path class="cpu" d="{shape}"><title>{milliseconds(line.cpu)} ms processor time</title></path>'
            )
    return svg(WIDTH, len(group.lines) * (BAR + GAP) + 4, parts, f"median latency of {group.network}")


def distributions(group: Group) -> str:
    """Every sample of every row as a histogram on one logarithmic axis, with p50, p90 and p99 marked."""
    low = min(min(line.samples) for line in group.lines) * 0.97
    high = max(max(line.samples) for line in group.lines) * 1.03
    room = WIDTH - LEFT - 12

    def at(value: float) -> float:
        return LEFT + room * (log10(value) - log10(low)) / (log10(high) - log10(low))

    height = len(group.lines) * (STRIP + 8)
    parts = [
        f'<path class="grid" d="M{at(tick):.1f} 0V{height}"/>'
        f'<text class="tick" x="{at(tick):.1f}" y="{height + 14}" text-anchor="middle">{tick:g}</text>'
        for tick in log_ticks(low, high)
    ]
    for index, line in enumerate(group.lines):
        bottom = index * (STRIP + 8) + STRIP + 2
        parts += _strip(line, at, room, bottom)
    parts.append(f'<text class="tick" x="{LEFT - 8}" y="{height + 14}" text-anchor="end">ms, log</text>')
    return svg(WIDTH, height + 20, parts, f"latency distribution of {group.network}")


def _strip(line: Line, at: object, room: float, bottom: float) -> list[str]:
    assert callable(at)
    counts = [0] * BINS
    for sample in line.samples:
        counts[min(BINS - 1, int((at(sample) - LEFT) / room * BINS))] += 1
    top, step = max(counts), room / BINS
    path = "".join(
        f"M{LEFT + i * step:.1f} {bottom}v{-STRIP * count / top:.1f}h{step:.2f}V{bottom}z"
        for i, count in enumerate(counts)
        if count
    )
    marks = [
        f'<path class="mark {name}" d="M{at(value):.1f} {bottom + 3}v{-STRIP - 3}"><title>{name} '
        f"{milliseconds(value)} ms</title></path>"
        for name in ("p50", "p90", "p99")
        if (value := line.value("run", f"{name}_ms")) is not None
    ]
    name = f'<text class="name" x="{LEFT - 8}" y="{bottom - 10}" text-anchor="end">{escape(short(line))}</text>'
    return [name, f'<path class="{colour(line.runtime)}" d="{path}"/>', *marks]


Point = tuple[str, str, float, float]
"""Label, runtime, x and y."""


def scatter(points: Sequence[Point], names: Mapping[int, str], x_name: str, y_name: str) -> str:
    """Points over a logarithmic x axis; ``points`` must not be empty.

    ``names`` are drawn for the points at these places: above, or below a point that has another one close above it.
    """
    width, height, left, bottom = 720, 330, 56, 42
    xs, ys = [p[2] for p in points], [p[3] for p in points]
    low, high = min(xs) / 1.35, max(xs) * 2.6
    pad = max(max(ys) - min(ys), 0.2) * 0.18
    base, peak = min(ys) - pad, max(ys) + pad

    def across(x: float) -> float:
        return left + (width - left - 10) * log10(x / low) / log10(high / low)

    def up(y: float) -> float:
        return 10 + (height - bottom - 10) * (peak - y) / (peak - base)

    parts = _axes(across, up, log_ticks(low, high), linear_ticks(base, peak), (width, height, left, bottom))
    for label, runtime, x, y in points:
        title = f"<title>{escape(f'{label}: {milliseconds(x)} ms, {y:.2f}')}</title>"
        at = f'cx="{across(x):.1f}" cy="{up(y):.1f}" r="6"'
        parts.append(f'<circle class="{colour(runtime)}" {at}>{title}</circle>')
    for index, (_, _, x, y) in enumerate(points):
        if index in names:
            crowded = any(0 < up(y) - up(other) < 26 for other in ys)
            parts.append(beside(names[index], across(x) - 14, up(y) + (15 if crowded else -14), width))
    return svg(width, height, [*parts, *_titles(x_name, y_name, width, height)], f"{y_name} over {x_name}")


def roofline(points: Sequence[Point], macs_per_second: float, bytes_per_second: float) -> str:
    """Achieved GMAC/s over MACs per byte, under the two measured ceilings; both axes logarithmic."""
    width, height, left, bottom = 720, 360, 56, 42
    ridge = macs_per_second / bytes_per_second
    low, high = min([ridge / 8, *(p[2] / 2 for p in points)]), max([ridge * 4, *(p[2] * 3 for p in points)])
    peak = macs_per_second / 1e9 * 1.6
    base = min([peak / 100, *(p[3] / 2 for p in points)])

    def across(x: float) -> float:
        return left + (width - left - 10) * log10(x / low) / log10(high / low)

    def up(y: float) -> float:
        return 10 + (height - bottom - 10) * log10(peak / y) / log10(peak / base)

    roof = macs_per_second / 1e9
    start = max(low, base * 1e9 / bytes_per_second)
    parts = _axes(across, up, log_ticks(low, high), log_ticks(base, peak), (width, height, left, bottom))
    parts.append(
        f'<path class="roof" d="M{across(start):.1f} {up(start * bytes_per_second / 1e9):.1f}'
        f'L{across(ridge):.1f} {up(roof):.1f}H{across(high):.1f}"/>'
        f'<text class="value" x="{across(high) - 4:.1f}" y="{up(roof) - 7:.1f}" text-anchor="end">'
        f"matrix product: {roof:.1f} GMAC/s</text>"
        f'<text class="value" x="{across(start) + 12:.1f}" y="{up(start * bytes_per_second / 1e9) + 16:.1f}">'
        f"copy: {bytes_per_second / 1e9:.1f} GB/s</text>"
    )
    for (label, runtime, x, y), level in zip(points, spread([up(p[3]) for p in points])):
        parts.append(
            f'<circle class="{colour(runtime)}" cx="{across(x):.1f}" cy="{up(y):.1f}" r="6"/>'
            + beside(label, across(x), level, width)
        )
    titles = _titles("MACs per byte moved, unfused", "GMAC/s", width, height)
    return svg(width, height, [*parts, *titles], "roofline")


def _axes(
    across: object, up: object, x: Iterable[float], y: Iterable[float], box: tuple[int, int, int, int]
) -> list[str]:
    assert callable(across) and callable(up)
    width, height, left, bottom = box
    parts = [
        f'<path class="grid" d="M{across(t):.1f} 10V{height - bottom}"/>'
        f'<text class="tick" x="{across(t):.1f}" y="{height - bottom + 16}" text-anchor="middle">{t:g}</text>'
        for t in x
    ]
    return parts + [
        f'<path class="grid" d="M{left} {up(t):.1f}H{width - 10}"/>'
        f'<text class="tick" x="{left - 6}" y="{up(t) + 4:.1f}" text-anchor="end">{t:g}</text>'
        for t in y
    ]


def _titles(x: str, y: str, width: int, height: int) -> list[str]:
    return [
        f'<text class="tick" x="{width - 10}" y="{height - 6}" text-anchor="end">{escape(x)}</text>',
        f'<text class="tick" x="14" y="{height / 2:.0f}" text-anchor="middle" '
        f'transform="rotate(-90 14 {height / 2:.0f})">{escape(y)}</text>',
    ]


def beside(label: str, x: float, y: float, width: float) -> str:
    """A point's label: on its right, or on its left where the picture ends."""
    left = x > 0.8 * width
    at, anchor = (x - 10, "end") if left else (x + 10, "start")
    return f'<text class="value" x="{at:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}">{escape(label)}</text>'


def spread(wanted: Sequence[float], apart: float = 15) -> list[float]:
    """The positions nearest to ``wanted``, in its order, none closer than ``apart``: labels that can be read."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = list(wanted)
    for before, after in pairwise(order):
        placed[after] = max(placed[after], placed[before] + apart)
    return placed


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of every decade within; of many decades only the ones."""
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    span = log10(high / low)
    steps = FINE if span < 0.8 else TICKS if span < 2.5 else TICKS[:1]
    found = [step * 10.0**decade for decade in decades for step in steps]
    found = [tick for tick in found if low <= tick <= high]
    return found or [float(f"{(low * high) ** 0.5:.2g}")]


def linear_ticks(low: float, high: float, count: int = 5) -> list[float]:
    raw = (high - low) / count
    unit = 10.0 ** floor(log10(raw))
    step = next((unit * t for t in (*TICKS, 10.0) if unit * t >= raw), unit * 10)
    first = ceil(low / step)
    return [round(n * step, 10) for n in range(first, floor(high / step) + 1)]


def svg(width: float, height: float, parts: Iterable[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def short(line: Line) -> str:
    name = line.runtime.replace("PyTorch eager", "PyTorch").removesuffix(PEER).replace("onnxruntime-web", "ORT web")
    return name + " plain" * line.is_plain + (f" ×{line.threads} thr" if line.threads > 1 else "")


def tooltip(line: Line) -> str:
    reasons = f": {'; '.join(line.reasons)}" if line.reasons else ""
    low, high = line.interval
    ends = f"[{milliseconds(low)}, {milliseconds(high)}]"
    return f"{line.name}: p50 {milliseconds(line.p50)} ms {ends}, {line.verdict}{reasons}"


def milliseconds(value: float) -> str:
    """Three significant digits, and whole numbers from a hundred on."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def legend(runtimes: Iterable[str]) -> Mapping[str, str]:
    """Runtime to CSS class, in order of appearance."""
    return {runtime: colour(runtime) for runtime in dict.fromkeys(runtimes)}
