"""A timed result as a page of documentation: the few numbers a reader wants, and where they were measured.

``latency.json`` holds what the page is made of, without the raw samples, so that a test can see whether it is stale.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightseg.benchmarks.page.view import Line, environment_of, line, read_results
from lightseg.benchmarks.results.cited import CITED
from lightseg.benchmarks.timing.subject import PEER, TWIN
from lightseg.errors import BadInput
from lightseg.files import atomic_path

DATA, PAGE = "latency.json", "latency.md"
FACTS = ("cpu", "virtual_machine", "flags", "load_average", "system", "python", "versions", "commit", "time", "resumed")
NUMBERS = ("network", "runtime", "shape", "threads", "p50", "interval", "cpu", "verdict", "reasons", "note")
MISSING = "—"


def reduced(path: Path) -> dict[str, Any]:
    """What the tables need of the result at ``path``. Errors: `BadInput` for one that holds no timed rows."""
    (result,) = read_results([path])
    if result["kind"] != "measured" or not result["rows"]:
        raise BadInput(f"{path} holds no timed rows; write it with lightseg-bench ... --json {path.name}")
    environment = environment_of(result)
    return {
        "kind": "measured",
        "command": " ".join(["lightseg-bench", *result["command"]]),
        "environment": {name: environment[name] for name in FACTS if name in environment},
        "rows": [_numbers(line(row)) for row in result["rows"]],
        "failed": result["failed"],
    }


def _numbers(one: Line) -> dict[str, Any]:
    found = {name: getattr(one, name) for name in NUMBERS}
    rounded = {name: float(f"{found[name]:.4g}") for name in ("p50", "cpu") if found[name] is not None}
    lists = {"shape": list(one.shape), "reasons": list(one.reasons)}
    return found | rounded | lists | {"interval": [float(f"{end:.4g}") for end in one.interval]}


def write_pages(result: Path, folder: Path) -> list[Path]:
    """`DATA` and `PAGE` in ``folder``. Errors: those of `reduced`, `OutputError`."""
    data = reduced(result)
    texts = {DATA: json.dumps(data, indent=1, ensure_ascii=False) + "\n", PAGE: page(data)}
    for name, text in texts.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def page(data: Mapping[str, Any]) -> str:
    """The whole page; measured and cited figures in tables of their own."""
    facts = data["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if version)
    where = f"{facts['cpu']}{' (virtual machine)' if facts['virtual_machine'] else ''}, {facts['system']}"
    later = f"; resumed: {facts['resumed']}" if "resumed" in facts else ""
    failed = [f"* {name} has no number: {reason}" for name, reason in data["failed"].items()]
    paragraphs = [
        "# Latency",
        "Made by `python -m lightseg.benchmarks.readme_cli --latency RESULT.json --out docs`, not by hand.",
        "## Measured",
        "Milliseconds of one inference, the runtime's call alone: median ± half of its 95 % interval, in brackets the "
        "median processor time of all threads. " + _doubt(data["rows"]),
    ]
    for threads in sorted({row["threads"] for row in data["rows"]}):
        paragraphs += [f"### {_threads(threads)}", "\n".join(latency_table(data, threads))]
    paragraphs += [
        *(["\n".join(failed)] if failed else []),
        f"Where: {where}; load {facts.get('load_average', MISSING)}; {facts['time']}, commit {facts['commit']}"
        f"{later}. With {versions}.",
        f"`{data['command']}`",
    ]
    if before := plain_table(data):
        paragraphs += ["## Derived", PLAIN_WORDS, "\n".join(before)]
    paragraphs += [
        "## Cited",
        "Other people's phones, files and protocols; not comparable with the tables above. Nothing is predicted.",
        "\n".join(cited_table()),
    ]
    return "\n\n".join(paragraphs) + "\n"


PLAIN_WORDS = (
    "The general converter's file (`lightseg-export --plain`) over ours: the ratio of their medians above, between the "
    "ratios of opposite ends of their intervals. The two were not measured in turns; `lightseg-bench FILE --against "
    "plain` does that. What has no number has no such file that passes the proof. *Slanted*: one of the two is NOISY."
)


def _doubt(rows: Sequence[Mapping[str, Any]]) -> str:
    """What slanted and struck figures mean, and how often each reason was given."""
    noisy = [row for row in rows if row["verdict"] != "PUBLISHABLE"]
    if not noisy:
        return "Every row is PUBLISHABLE."
    reasons = Counter(re.sub(r"[\d.]+ ?%", "n %", reason) for row in noisy for reason in row["reasons"])
    counted = "; ".join(f"{reason} ({number})" for reason, number in reasons.most_common())
    return (
        f"*Slanted*: NOISY ({len(noisy)} of {len(rows)} rows), not to be cited; ~~struck~~: INVALID. "
        f"Why, with the number of rows: {counted}."
    )


def latency_table(data: Mapping[str, Any], threads: int) -> list[str]:
    """A line for every network, a column for every runtime; peers in their format's column."""
    rows = [row for row in data["rows"] if row["threads"] == threads]
    runtimes = list(dict.fromkeys(_runtime(row) for row in data["rows"]))
    networks = dict.fromkeys((row["network"], _size(row["shape"])) for row in rows)
    cells = {(row["network"], _size(row["shape"]), _runtime(row)): _cell(row) for row in rows}
    body = [[*one, *(cells.get((*one, runtime), MISSING) for runtime in runtimes)] for one in networks]
    return _markdown(["network", "input", *runtimes], body, right=range(1, 2 + len(runtimes)))


def plain_table(data: Mapping[str, Any]) -> list[str]:
    """How much slower the general converters' files are; empty where none was timed."""
    rows = {(row["network"], (row["threads"], _runtime(row))): row for row in data["rows"]}
    ratios = {
        (network, column): _ratio(rows[network + TWIN, column], ours)
        for (network, column), ours in rows.items()
        if (network + TWIN, column) in rows
    }
    networks = dict.fromkeys(network for network, _ in ratios)
    columns = sorted(dict.fromkeys(column for _, column in ratios), key=lambda column: column[0])
    head = ["network", *(f"{runtime}, {_threads(threads)}" for threads, runtime in columns)]
    body = [[network, *(ratios.get((network, column), MISSING) for column in columns)] for network in networks]
    return _markdown(head, body, right=range(1, len(head))) if ratios else []


def _ratio(plain: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    (low, high), (least, most) = plain["interval"], ours["interval"]
    mark = "" if plain["verdict"] == ours["verdict"] == "PUBLISHABLE" else "*"
    return f"{mark}{plain['p50'] / ours['p50']:.2f} [{low / most:.2f}, {high / least:.2f}]{mark}"


def cited_table() -> list[str]:
    head = ["network", "device", "how", "ms, cited", "source", "read"]
    rows = ([c.network, c.device, c.how, f"{c.milliseconds:g}", c.source, c.read] for c in CITED)
    return _markdown(head, rows, right=[3])


def _runtime(row: Mapping[str, Any]) -> str:
    return str(row["runtime"]).removesuffix(PEER)


def _threads(number: int) -> str:
    return f"{number} thread{'s' * (number > 1)}"


def _cell(row: Mapping[str, Any]) -> str:
    low, high = row["interval"]
    half = f" ± {(high - low) / 2 / row['p50']:.0%}".replace("%", " %")
    text = f"{row['p50']:.3g}{half}" + (f" ({row['cpu']:.3g})" if row["cpu"] is not None else "")
    mark = {"PUBLISHABLE": "", "NOISY": "*", "INVALID": "~~"}[row["verdict"]]
    return f"{mark}{text}{mark}"


def _size(shape: Sequence[int]) -> str:
    batch, _, height, width = shape
    return f"{height}×{width}" if batch == 1 else f"{batch} × {height}×{width}"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int]) -> list[str]:
    rule = ["---:" if i in set(right) else "---" for i in range(len(head))]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]
