"""One operation of a file, with its exact inputs and the right answer, as a folder that shows the fault again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lightseg.export.bisection import Bisection
from lightseg.export.trace import Layer, Trace
from lightseg.files import atomic_path

VALUES, SCRIPT = "values.npz", "reproduce.py"


def write_reproduction(trace: Trace, found: Bisection, out: Path) -> Path | None:
    """The folder ``<file>.<node>`` in ``out``; None where no operation is to blame. Errors: `OutputError`."""
    culprit = found.culprit
    if culprit is None:
        return None
    folder = out / f"{found.file}.{culprit.node}"
    name = trace.name_in_file(culprit.node)
    given = trace.given(name)
    with atomic_path(folder, folder=True) as temporary:
        inputs: dict[str, Any] = {f"input_{i}": np.asarray(value, np.float32) for i, value in enumerate(given.values())}
        np.savez(temporary / VALUES, want=trace.exact[culprit.node].numpy(), **inputs)
        run = trace.inside.save(name, temporary)
        (temporary / SCRIPT).write_text(_script(found, culprit, list(given), run), encoding="utf-8")
    return folder


def _script(found: Bisection, culprit: Layer, names: list[str], run: str) -> str:
    return TEMPLATE.format(
        node=culprit.node,
        operation=culprit.operation,
        file=found.file,
        module=culprit.module or "what stands around the network",
        source=culprit.source or "no line of it",
        names=names,
        run=run.strip("\n"),
        allowed=culprit.isolated_allowed,
        values=VALUES,
    )


TEMPLATE = '''\
"""{operation} {node} of {file}, alone, from exact inputs.

Module: {module}
Source: {source}
Exits with 1 where the answer is wrong.
"""

from pathlib import Path

import numpy

HERE = Path(__file__).parent
NAMES = {names!r}
ALLOWED = {allowed!r}


{run}


values = numpy.load(HERE / "{values}")
want = values["want"]
got = run([values[f"input_{{i}}"] for i in range(len(NAMES))])
off = numpy.abs(got.astype("float64") - want)
error = off.max() / (numpy.abs(want).max() or 1)
print(f"{operation} {node}: error {{error:.3g}} of the largest value, allowed {{ALLOWED:.3g}}")
print("worst at N, C, H, W =", tuple(map(int, numpy.unravel_index(off.argmax(), off.shape))))
raise SystemExit(0 if error <= ALLOWED else 1)
'''
