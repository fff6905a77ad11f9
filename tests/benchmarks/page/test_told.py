"""A phone's result on the page: what ``benchmark_model`` told, apart from rows of ours."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from lightseg.benchmarks.page.render import as_html, headline, machine
from lightseg.benchmarks.page.text import as_markdown
from lightseg.benchmarks.page.view import view
from lightseg.benchmarks.remote.adb import Adb
from lightseg.benchmarks.remote.benchmark_model import Summary, read
from lightseg.benchmarks.remote.mode import phone_facts
from lightseg.benchmarks.results.report import Report
from lightseg.errors import BadInput
from tests.benchmarks.page.conftest import FILE, Tags

pytest.importorskip("jinja2", reason="the page needs the extra report")
SAYS = "ro.product.model=Pixel 0\nro.soc.model=GS0\n"
TOLD = """
Timings (microseconds): count=50 first=79449 curr=81350 min=77385 max=88213 avg=79732 std=1929
Inference timings in us: Init: 38467, First inference: 79449, Warmup (avg): 83235, Inference (avg): 79760.9
"""


def phone(monkeypatch: pytest.MonkeyPatch, *summaries: Summary) -> dict[str, Any]:
    monkeypatch.setattr("lightseg.benchmarks.remote.adb.run", lambda link, script: SAYS)
    report = Report([], phone_facts(Adb("adb:R58", "R58")), ["--device", "adb:R58"], summaries=list(summaries))
    data: dict[str, Any] = json.loads(json.dumps(report.to_dict()))
    return data


GOOD = Summary(FILE, 2, (read(TOLD, ("none", "severe")),), "", True)


def test_a_phone_s_result_has_a_table_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = view([phone(monkeypatch, GOOD, replace(GOOD, threads=1, wrong="it <differs>"))])
    assert headline(shown) == ("What benchmark_model told on Pixel 0, GS0: its own protocol, without samples of ours.")
    assert machine(shown).startswith("Pixel 0, GS0 · 2") and "pinned" not in machine(shown)
    html = as_html(shown)
    tags = Tags(html)
    assert tags.seen.count("table") == 1 and [tag for tag in tags.open if tag != "meta"] == []
    for cell in ("sinet-clova", "Pixel 0, GS0", "38.5", "79.4", "79.8", "—", "77.4", "50", "none to severe"):
        assert f">{cell}</td>" in html
    assert "the phone throttled" in html and "SUMMARY ONLY" in html
    assert "sinet-clova, tflite on Pixel 0, GS0 is INVALID: it &lt;differs&gt;" in html
    head, _, first, second, _, command = as_markdown(shown).splitlines()
    assert "| benchmark_model on |" in head and "| 79.8 |" in first and second.endswith("| INVALID |")
    assert command == "`lightseg-bench --device adb:R58`"


def test_beside_rows_of_ours_it_says_where(monkeypatch: pytest.MonkeyPatch, result: dict[str, Any]) -> None:
    shown = view([result, phone(monkeypatch, GOOD)])
    assert headline(shown) == headline(view([result])) and "Pixel" not in machine(shown)
    assert ">Pixel 0, GS0</td>" in as_html(shown)
    assert len(shown.lines) == 2, "no row of ours is made of it"


def test_a_phone_that_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = view([{**phone(monkeypatch), "failed": {"a, tflite": "it died"}}])
    assert headline(shown) == "Nothing was timed." and "a, tflite has no number: it died" in as_html(shown)


def test_an_incomplete_summary_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    data = phone(monkeypatch, GOOD)
    del data["summaries"][0]["verdict"]
    with pytest.raises(BadInput, match=r"not complete \(KeyError"):
        view([data])
