"""Verdicts as JUnit XML, which every CI service shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from lightseg.files import atomic_path

UNPRINTABLE = dict.fromkeys((*range(9), 11, 12, *range(14, 32)), " ")
"""Control characters, which XML has no way to write."""


@dataclass(frozen=True)
class Case:
    """One verdict; ``failure`` says what was wrong, None that nothing was."""

    suite: str
    name: str
    seconds: float
    output: str = ""
    failure: str | None = None
    skipped: bool = False
    """Neither passed nor failed: ``output`` says why it was not tried."""


def junit(cases: Sequence[Case]) -> str:
    """The document: one ``testsuite`` per `Case.suite`, in the order of first appearance."""
    root = ElementTree.Element("testsuites")
    for name in dict.fromkeys(c.suite for c in cases):
        members = [c for c in cases if c.suite == name]
        suite = ElementTree.SubElement(root, "testsuite", _totals(name, members))
        for case in members:
            _add(suite, case)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _totals(name: str, cases: Sequence[Case]) -> dict[str, str]:
    failures = sum(c.failure is not None for c in cases)
    skipped = sum(c.skipped for c in cases)
    seconds = sum(c.seconds for c in cases)
    counts = {"tests": len(cases), "failures": failures, "skipped": skipped}
    return {"name": name, **{k: str(n) for k, n in counts.items()}, "time": f"{seconds:.3f}"}


def _add(suite: ElementTree.Element, case: Case) -> None:
    facts = {"classname": case.suite, "name": case.name, "time": f"{case.seconds:.3f}"}
    element = ElementTree.SubElement(suite, "testcase", {k: v.translate(UNPRINTABLE) for k, v in facts.items()})
    if case.failure is not None:
        ElementTree.SubElement(element, "failure", {"message": case.failure.translate(UNPRINTABLE)})
    if case.skipped:
        ElementTree.SubElement(element, "skipped", {"message": case.output.translate(UNPRINTABLE)})
    elif case.output:
        ElementTree.SubElement(element, "system-out").text = case.output.translate(UNPRINTABLE)


def write_junit(path: Path, cases: Sequence[Case]) -> None:
    """Errors: `OutputError`."""
    with atomic_path(path) as temporary:
        temporary.write_text(junit(cases), encoding="utf-8")
