"""Writes the page: index.html, results.json, rows.csv and summary.md in one folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightseg.benchmarks.page import plots, sections
from lightseg.benchmarks.page.layers import LEGEND, amount
from lightseg.benchmarks.page.text import as_csv, as_markdown
from lightseg.benchmarks.page.told import TIMES, where_from
from lightseg.benchmarks.page.view import Line, View, score_of, view
from lightseg.errors import MissingExtra
from lightseg.files import atomic_path

TITLE = "lightseg benchmark"
OTHER_ARITHMETIC = (" tf32",)
"""Endings of rows whose products are not limited by the float32 ceiling."""


def write_report(folder: Path, results: Sequence[Mapping[str, Any]]) -> list[Path]:
    """One page of all ``results``, as `view` takes them; the files written, the page first.

    Errors: `MissingExtra` without Jinja2, `BadInput` for an incomplete result, `OutputError`.
    """
    shown = view(results)
    texts = {
        "index.html": as_html(shown),
        "results.json": json.dumps(list(results), ensure_ascii=False) + "\n",
        "rows.csv": as_csv(shown),
        "summary.md": as_markdown(shown),
    }
    for name, text in texts.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def require_jinja() -> None:
    """Worth knowing before anything is measured. Errors: `MissingExtra`."""
    from importlib.util import find_spec

    if find_spec("jinja2") is None:
        raise MissingExtra("--report", "report", "jinja2")


def as_html(shown: View) -> str:
    require_jinja()
    import jinja2

    source = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(source).render(
        v=shown,
        plots=plots,
        title=TITLE,
        machine=machine(shown),
        headline=headline(shown),
        legend=plots.legend(line.runtime for line in shown.lines),
        ms=plots.milliseconds,
        half=half_width,
        scores=[score and score[1] for line in shown.lines for score in [score_of(shown, line)]],
        reasons=[
            (shown.called(line.name, line), "; ".join([*line.reasons, *filter(None, [line.note])]))
            for line in _noted(shown)
        ],
        accuracy=accuracy_plot(shown),
        roof=roofline_plot(shown),
        counters=counter_rows(shown),
        facts=facts(shown.environment, shown.protocol),
        cards=sections.cards(shown),
        pictures=sections.pictures(shown),
        unseen=sections.unseen(shown),
        panels=sections.panels(shown),
        unprofiled=sections.unprofiled(shown),
        further=sections.further(shown),
        amount=amount,
        kinds=LEGEND,
        times=TIMES,
    )


def headline(shown: View) -> str:
    """What someone takes home who reads one sentence."""
    if not shown.groups:
        return _without_rows(shown)
    ours = [group for group in shown.groups if not group.of_others]
    groups = [group for group in ours if len(group.lines) > 1] or ours or list(shown.groups)
    best = [group.fastest for group in groups]
    runtimes = list(dict.fromkeys(line.runtime for line in best))
    gains = sorted(gain for group, line in zip(groups, best) if (gain := group.gain(line)))
    how = ", by processor time" if any(group.by_processor_time for group in groups) else ""
    if len(best) == 1:
        taken = plots.milliseconds(groups[0].judged(best[0]))
        text = f"{best[0].network} takes {taken} ms as {best[0].runtime}"
    elif len(runtimes) == 1:
        text = f"{runtimes[0]} is the fastest form of {'both' if len(best) == 2 else f'all {len(best)}'} networks"
    else:
        each = "; ".join(f"{line.network} {line.runtime}" for line in best)
        text = f"The fastest form of each network: {each}"
    if not gains:
        return f"{text}{how}."
    spread = f"{gains[0]:.1f}" if len(gains) == 1 else f"{gains[0]:.1f} to {gains[-1]:.1f}"
    return f"{text}, {spread} times as fast as PyTorch eager{how}."


def _without_rows(shown: View) -> str:
    if shown.comparisons:
        return "What two forms cost beside each other."
    if shown.told:
        phones = " and ".join(dict.fromkeys(one.where for one in shown.told))
        return f"What benchmark_model told on {phones}: its own protocol, without samples of ours."
    return "Exact counts; nothing was timed." if shown.counted or shown.emulated else "Nothing was timed."


def machine(shown: View) -> str:
    known = shown.environment
    if not known:
        return ""
    guest = ", virtual machine" if known.get("virtual_machine") else ""
    cores = ",".join(map(str, known.get("affinity", ())))  # nobody pins a phone's benchmark_model
    pinned = f"pinned to core {cores}" if cores else ""
    commit = f"commit {known['commit']}" if "commit" in known else ""
    return " · ".join(filter(None, [where_from(known) + guest, pinned, known.get("time", "")[:10], commit]))


def half_width(line: Line) -> float:
    low, high = line.interval
    return (high - low) / 2 / line.p50


def accuracy_plot(shown: View) -> str | None:
    scored = [(line, score) for line in shown.lines if (score := score_of(shown, line))]
    if not scored:
        return None
    metric = scored[0][1][0]
    names = {"per_image_person_iou": "person IoU, mean over images, %", "confusion_miou": "mean IoU of classes, %"}
    times = {id(line): group.judged(line) for group in shown.groups for line in group.lines}
    scored = [(line, score) for line, score in scored if score[0] == metric]
    points = [(shown.called(line.name, line), line.runtime, times[id(line)], value) for line, (_, value) in scored]
    how = "processor time" if any(group.by_processor_time for group in shown.groups) else "median"
    forms: dict[str, list[int]] = {}
    for index, (line, _) in enumerate(scored):
        forms.setdefault(shown.called(line.network, line), []).append(index)
    labels = {min(indices, key=lambda index: points[index][2]): network for network, indices in forms.items()}
    return plots.scatter(points, labels, f"ms per inference, {how}, log", names[metric])


def roofline_plot(shown: View) -> str | None:
    """Under the float32 ceilings, and so without rows of other arithmetic on a GPU."""
    points = []
    for line in shown.lines:
        cost = shown.costs.get(line.file)
        if cost and line.threads == 1 and not line.runtime.endswith(OTHER_ARITHMETIC):
            points.append(
                (
                    shown.called(line.name, line),
                    line.runtime,
                    cost["macs"] / cost["bytes_moved"],
                    cost["macs"] * line.shape[0] / line.worked / 1e6,
                )
            )
    if not points or not shown.ceilings:
        return None
    return plots.roofline(points, shown.ceilings["macs_per_second"], shown.ceilings["bytes_per_second"])


def counter_rows(shown: View) -> list[tuple[str, str]]:
    """Every counter that any artifact has or misses, with its title."""
    from lightseg.benchmarks.counting.counters import Counters
    from lightseg.benchmarks.counting.tables import rows, title

    counted = [Counters(one["name"], one["counts"], one["missing"]) for one in shown.counted]
    return [(name, title(name).strip()) for name in rows(counted)]


def facts(environment: Mapping[str, Any], protocol: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The environment, and how often things were timed, as text."""
    found = [(name.replace("_", " "), _text(value)) for name, value in environment.items()]
    return found + ([("protocol", _text(protocol))] if protocol else [])


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_text(one)}" for name, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _noted(shown: View) -> list[Line]:
    return [line for line in shown.lines if line.reasons or line.note]
