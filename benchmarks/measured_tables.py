"""A timed result as a page of documentation: the few numbers a reader wants, and where they were measured.

``latency.json`` holds what the page is made of, without the raw samples, so that a test can see whether it is stale.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightseg.benchmarks.page.view import PEER, Line, line, read_results
from lightseg.benchmarks.results.cited import CITED
from lightseg.errors import BadInput
from lightseg.files import atomic_path

DATA, PAGE = "latency.json", "latency.md"
FACTS = ("cpu", "virtual_machine", "flags", "load_average", "system", "python", "versions", "commit", "time")
NUMBERS = ("network", "runtime", "shape", "threads", "p50", "interval", "cpu", "verdict", "note")
MISSING = "—"


def reduced(path: Path) -> dict[str, Any]:
    """What the tables need of the result at ``path``. Errors: `BadInput` for one that holds no timed rows."""
    (result,) = read_results([path])
    if result["kind"] != "measured" or not result["rows"]:
        raise BadInput(f"{path} holds no timed rows; write it with lightseg-bench ... --json {path.name}")
    environment = result["environment"]
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
    return found | rounded | {"shape": list(one.shape), "interval": [float(f"{end:.4g}") for end in one.interval]}


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
    noisy = sum(row["verdict"] != "PUBLISHABLE" for row in data["rows"])
    doubt = f"*Slanted*: NOISY ({noisy} of {len(data['rows'])} rows), not to be cited; ~~struck~~: INVALID."
    failed = [f"* {name} has no number: {reason}" for name, reason in data["failed"].items()]
    paragraphs = [
        "# Latency",
        "Made by `python -m lightseg.benchmarks.readme_cli --latency RESULT.json --out docs`, not by hand.",
        "## Measured",
        "\n".join(latency_table(data)),
        "Milliseconds of one inference, the runtime's call alone: median ± half of its 95 % interval, in brackets the "
        "median processor time of all threads. " + (doubt if noisy else "Every row is PUBLISHABLE."),
        *(["\n".join(failed)] if failed else []),
        f"Where: {where}; load {facts.get('load_average', MISSING)}; {facts['time']}, commit {facts['commit']}. "
        f"With {versions}.",
        f"`{data['command']}`",
        "## Cited",
        "Other people's phones, files and protocols; not comparable with the table above. Nothing is predicted.",
        "\n".join(cited_table()),
    ]  # fmt: skip
    return "\n\n".join(paragraphs) + "\n"


def latency_table(data: Mapping[str, Any]) -> list[str]:
    """A line for every network, a column for every runtime and number of threads; peers in their format's column."""
    rows = data["rows"]
    columns = sorted(dict.fromkeys(_column(row) for row in rows), key=lambda c: (_order(rows)[c[0]], c[1]))
    networks = dict.fromkeys((row["network"], _size(row["shape"])) for row in rows)
    cells = {(row["network"], _size(row["shape"]), *_column(row)): _cell(row) for row in rows}
    head = ["network", "input", *(f"{runtime}, {threads} thread{'s' * (threads > 1)}" for runtime, threads in columns)]
    body = [[*one, *(cells.get((*one, *column), MISSING) for column in columns)] for one in networks]
    return _markdown(head, body, right=range(1, len(head)))


def cited_table() -> list[str]:
    head = ["network", "device", "how", "ms, cited", "source", "read"]
    rows = ([c.network, c.device, c.how, f"{c.milliseconds:g}", c.source, c.read] for c in CITED)
    return _markdown(head, rows, right=[3])


def _column(row: Mapping[str, Any]) -> tuple[str, int]:
    return row["runtime"].removesuffix(PEER), row["threads"]


def _order(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Runtimes in the order of their first rows."""
    return {name: i for i, name in enumerate(dict.fromkeys(_column(row)[0] for row in rows))}


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
