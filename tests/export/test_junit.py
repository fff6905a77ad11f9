"""JUnit XML that other tools can read."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightseg.export import verify_cli
from lightseg.export.junit import Case, junit
from tests.export.conftest import Exported


def test_counts_and_messages() -> None:
    cases = [Case("a", "one", 0.5, "fine"), Case("b", "two", 0.25, "", "worse"), Case("a", "three", 1.0, "", "bad")]
    root = ElementTree.fromstring(junit(cases))
    suites = {s.get("name"): s for s in root}
    assert {k: (s.get("tests"), s.get("failures"), s.get("time")) for k, s in suites.items()} == {
        "a": ("2", "1", "1.500"),
        "b": ("1", "1", "0.250"),
    }
    assert [f.get("message") for f in root.iter("failure")] == ["bad", "worse"]
    assert [o.text for o in root.iter("system-out")] == ["fine"]


def test_what_was_not_tried_is_skipped() -> None:
    (suite,) = ElementTree.fromstring(junit([Case("a", "one", 0.5), Case("a", "two", 0.0, "no place", skipped=True)]))
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("2", "0", "1")
    assert [(s.get("message"), c.get("name")) for c in suite for s in c] == [("no place", "two")]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\t￾￿")))
def test_any_text_gives_readable_xml(text: str) -> None:
    root = ElementTree.fromstring(junit([Case("s", text, 0.0, text, text)]))
    (case,) = root.iter("testcase")
    printable = "".join(" " if ord(c) < 32 else c for c in text)
    assert case.get("name") == printable


def test_verify_writes_one_case_per_file(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad, out = str(exported("sinet", "onnx").path), str(tmp_path / "none.onnx"), tmp_path / "parity.xml"
    assert verify_cli.main([good, bad, "--junit", str(out)]) == 1
    first, second = ElementTree.parse(out).iter("testcase")
    assert first.get("name") == good and first.find("failure") is None
    failure = second.find("failure")
    assert failure is not None and "no artifact" in str(failure.get("message"))
