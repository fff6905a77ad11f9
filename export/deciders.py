"""The code a verdict of the support table rests on, as one hash per target and precision.

Not every commit may make the table old: a verdict costs minutes. So only the modules a target's export goes through
count (its own file, what that imports, its rewrites, the pipeline and the proof), and of them neither comments nor
docstrings. What is shared, like the capture or the proof, makes every target's cells old; a writer its own target's;
the search for int8 no others than those of int8.
"""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from lightseg.export.targets import find_target

PACKAGE = "lightseg.export"
SHARED = (f"{PACKAGE}.pipeline", f"{PACKAGE}.rounding", "lightseg.models.sinet", "lightseg.models.c3net")
REGISTRIES = {PACKAGE, f"{PACKAGE}.targets", f"{PACKAGE}.rewrites"}
"""Tables of all targets and all rewrites; which of them count is asked of the target."""


INT8 = f"{PACKAGE}.quantization"


def code_hash(target: str, precision: str = "fp32") -> str:
    """The first 16 digits of the sha256 over all that decides about ``target`` in ``precision``."""
    rules = find_target(target).rewrites()
    starts = [f"{PACKAGE}.targets.{target}", *SHARED, *dict.fromkeys(rule.__module__ for rule in rules)]
    digest = hashlib.sha256(" ".join(rule.__name__ for rule in rules).encode())
    for module in sorted(_reached(starts, int8=precision == "int8")):
        digest.update(f"\n{module}\n{_code(module)}".encode())
    return digest.hexdigest()[:16]


def _reached(starts: list[str], int8: bool) -> set[str]:
    found: set[str] = set()
    waiting = list(starts)
    while waiting:
        module = waiting.pop()
        if module not in found and module not in REGISTRIES and (int8 or not module.startswith(INT8)):
            found.add(module)
            waiting += _imports(module)
    return found


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Modules of the stage and of the networks that ``module`` imports anywhere, functions included."""
    return tuple(
        name
        for node in ast.walk(ast.parse(_path(module).read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module
        for name in _modules_in(node.module, [alias.name for alias in node.names])
    )


def _modules_in(module: str, names: list[str]) -> Iterator[str]:
    """``from a.b import c`` reads a.b, and a.b.c where that is a module."""
    if not module.startswith((PACKAGE, "lightseg.models")):
        return
    yield module
    for name in names:
        if module not in REGISTRIES and find_spec(module) and _is_module(f"{module}.{name}"):
            yield f"{module}.{name}"


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is no package
        return False


def _path(module: str) -> Path:
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None, f"{module} is not a module of the package"
    return Path(spec.origin)


@cache
def _code(module: str) -> str:
    return without_words(_path(module).read_text(encoding="utf-8"))


def without_words(source: str) -> str:
    """``source`` without comments, docstrings and blank lines: the same text from every version of Python."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            for row in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[row] = ""
    return "\n".join(line.rstrip() for line in lines if line.strip())
