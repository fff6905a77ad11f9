"""The runner a device gets: the measured process's own source in one file that Python runs as it is.

It needs Python, NumPy and the artifact's runtime there, nothing of lightseg. What goes in is found from the imports at
the top of the modules, so there is no second copy of anything to keep in step.
"""

from __future__ import annotations

import ast
import hashlib
import io
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

NAME = "lightseg-runner.pyz"
ROOTS = (
    "lightseg.benchmarks.timing.child",
    "lightseg.benchmarks.timing.passes",
    "lightseg.benchmarks.timing.energy",
    "lightseg.benchmarks.timing.opening",
    "lightseg.benchmarks.timing.proofs",
    "lightseg.export.targets",
    "lightseg.export.parity",
    "lightseg.export.writers.ncnn_weights",
)
"""What the measured process imports on its way, some of it only when it is needed."""
OLDEST = (3, 10)
STAMP = (1980, 1, 1, 0, 0, 0)
"""One time for all files, so that equal sources make an equal bundle."""

MAIN = '''\
"""Written by lightseg-bench: measures an artifact on this machine, asked line by line through standard input."""
import json
import os
import sys

RUNNER = "@IDENTITY@"


def present(name):
    from importlib.util import find_spec
    return find_spec(name) is not None


def probe(names):
    """What this machine has, as one line of JSON; in the syntax of any Python 3."""
    facts = {"runner": RUNNER, "python": ".".join(map(str, sys.version_info[:3]))}
    facts["has"] = [name for name in names if present(name)]
    print(json.dumps(facts))


if __name__ == "__main__":
    if sys.argv[1:2] == ["probe"]:
        probe(sys.argv[2:])
    else:
        from lightseg.benchmarks.timing.child import claim_stdout, serve
        serve(sys.stdin, claim_stdout())
'''


def bundle() -> bytes:
    """The runner as bytes; `identity` names it."""
    content = io.BytesIO()
    content.write(b"#!/usr/bin/env python3\n")
    sources = dict(sorted(_sources().items()))
    with zipfile.ZipFile(content, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, text in {**sources, "__main__.py": MAIN.replace("@IDENTITY@", identity())}.items():
            archive.writestr(zipfile.ZipInfo(name, STAMP), text, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def identity() -> str:
    """Twelve hexadecimal digits of the sources."""
    digest = hashlib.sha256(MAIN.encode())
    for name, text in sorted(_sources().items()):
        digest.update(f"{name}\0{len(text)}\0{text}".encode())
    return digest.hexdigest()[:12]


def modules() -> list[str]:
    """Every module in the runner, packages among them."""
    found: dict[str, None] = {}
    left = list(ROOTS)
    while left:
        name = left.pop()
        if name in found or _file(name) is None:
            continue
        found[name] = None
        left += [name.rpartition(".")[0], *_imports(name)]
    return sorted(found)


def _sources() -> dict[str, str]:
    """The text of every module by its path in the runner."""
    files = {name: _file(name) for name in modules()}
    return {_place(name, path): path.read_text(encoding="utf-8") for name, path in files.items() if path is not None}


def _file(name: str) -> Path | None:
    """Where a module's source is; None for what is no module of ours, a name imported from one."""
    if not name.startswith("lightseg"):
        return None
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


def _place(name: str, path: Path) -> str:
    folder = name.replace(".", "/")
    return f"{folder}/__init__.py" if path.name == "__init__.py" else f"{folder}.py"


def _imports(name: str) -> Iterator[str]:
    """Modules that importing this one imports; names taken from packages may be modules too."""
    path = _file(name)
    assert path is not None
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
