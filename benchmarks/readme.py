"""README's tables, made from the declared models: counted, published and measured figures in columns of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from lightseg.errors import BadInput
from lightseg.files import atomic_path
from lightseg.spec import Figure, ModelSpec
from lightseg.zoo import MODELS

MISSING = "—"
MEASURED = "measured"
"""How the source of a figure begins that this project measured itself; every other figure is somebody's report."""


def models_table() -> list[str]:
    """One row per architecture. The counted numbers are recounted by the tests."""
    head = (
        "model",
        "for",
        "input",
        "params, counted",
        "MACs, counted",
        "params, published",
        "MACs, published",
        "published in",
    )
    return _table(head, (_model_row(spec) for spec in MODELS.values()), right=range(2, 7))


def weights_table() -> list[str]:
    """One row per file of trained weights; the first of a model is its default."""
    head = ("`--model`", "trained by", "licence", "accuracy, published", "accuracy, measured here")
    rows = ((spec, weights) for spec in MODELS.values() for weights in spec.weights)
    return _table(
        head,
        (
            (
                f"`{spec.name}.{w.tag}`" + (" (default)" if w is spec.weights[0] else ""),
                w.origin,
                w.licence.split(",")[0],
                _figures(f for f in w.figures.values() if not f.source.startswith(MEASURED)),
                _figures(f for f in w.figures.values() if f.source.startswith(MEASURED)),
            )
            for spec, w in rows
        ),
    )


TABLES: dict[str, Callable[[], list[str]]] = {"models": models_table, "weights": weights_table}


def with_tables(text: str) -> str:
    """``text`` with everything between ``<!-- table NAME -->`` and ``<!-- end -->`` made anew.

    Errors: `BadInput` where one of the tables has no place.
    """
    for name, make in TABLES.items():
        place = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not place.search(text):
            raise BadInput(f"no place for the table: put the lines '<!-- table {name} -->' and '<!-- end -->' in")
        table = "\n".join(make()) + "\n"
        text = place.sub(lambda found, table=table: found[1] + table + found[2], text)  # type: ignore[misc]
    return text


def refresh(path: Path) -> bool:
    """Bring the tables in ``path`` up to date; whether anything changed. Errors: `BadInput`, `OutputError`."""
    try:
        before = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"cannot read {path} ({error.strerror}); name the README") from error
    after = with_tables(before)
    if after != before:
        with atomic_path(path) as temporary:
            temporary.write_text(after, encoding="utf-8")
    return after != before


def _model_row(spec: ModelSpec) -> tuple[str, ...]:
    params, macs = (spec.published.get(key) for key in ("params", "macs"))
    return (
        f"`{spec.name}`",
        spec.task,
        "×".join(map(str, spec.input_size)),
        f"{spec.params:,}",
        f"{spec.macs / 1e6:,.1f} M",
        f"{params.value / 1e6:.3g} M" if params else MISSING,
        f"{macs.value / 1e6:,.0f} M" if macs else MISSING,
        _sources(figure for figure in (params, macs) if figure),
    )


def _sources(figures: Iterable[Figure]) -> str:
    """Where the figures were published, and why the counted ones differ."""
    figures = list(figures)
    sources = dict.fromkeys(figure.source for figure in figures)
    return "; ".join([*sources, *(figure.note for figure in figures if figure.note)]) or MISSING


def _figures(figures: Iterable[Figure]) -> str:
    shown = (f"{f.value:g} {f.unit} ({f.source.removeprefix(MEASURED).strip(' ,:')})" for f in figures)
    return "; ".join(shown) or MISSING


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]], right: Iterable[int] = ()) -> list[str]:
    rule = ["---:" if i in set(right) else "---" for i in range(len(head))]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]
