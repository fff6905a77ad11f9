"""The files of a report: whole, without network, and nothing half-written."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from lightseg.benchmarks import cli
from lightseg.benchmarks.page.render import as_html, write_report
from lightseg.benchmarks.page.text import as_csv, as_markdown
from lightseg.benchmarks.page.view import View, read_results, view
from lightseg.errors import BadInput, MissingExtra
from tests.benchmarks.page.conftest import Tags

pytest.importorskip("jinja2", reason="the page needs the extra report")


def test_the_page_needs_no_network_and_is_well_formed(page: View) -> None:
    html = as_html(page)
    tags = Tags(html)
    assert tags.fetched == []
    assert [tag for tag in tags.open if tag != "meta"] == []
    assert "@import" not in html and "url(" not in html
    assert tags.seen.count("svg") == 2 and tags.seen.count("table") == 2
    assert "A &lt;CPU&gt; &amp; more" in html and "it &lt;died&gt;" in html


def test_csv_has_every_boundary_unrounded(page: View, result: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(page))))
    assert {row["boundary"] for row in rows} >= {"import_and_load", "load", "first", "run", "run_cpu"}
    run = next(row for row in rows if row["runtime"] == "tflite" and row["boundary"] == "run")
    assert float(run["p50_ms"]) == result["rows"][1]["summary"]["run"]["p50_ms"]
    assert run["file"] == "sinet-clova-fp32.tflite" and run["verdict"] == "NOISY"
    first = next(row for row in rows if row["boundary"] == "first")
    assert first["p50_ms"] == "" and float(first["median_ms"]) == 2.0


def test_markdown_is_a_table(page: View) -> None:
    head, rule, *rows, _, command = as_markdown(page).splitlines()
    assert len({line.count("|") for line in (head, rule, *rows)}) == 1
    assert "| NOISY |" in rows[1]
    assert command == "`lightseg-bench a.tflite --quick`"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot read"),
        ("{", "no JSON"),
        ("[]", "no result of lightseg-bench"),
        ('{"kind": "budget"}', "no result"),
    ],
)
def test_files_that_are_no_results(text: str | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput, match=says) as caught:
        read_results([path])
    assert len(str(caught.value).splitlines()) == 1


def test_an_incomplete_result_is_one_line(result: dict[str, Any]) -> None:
    del result["rows"][0]["summary"]
    with pytest.raises(BadInput, match=r"not complete \(KeyError"):
        view([result])


def test_the_command_shows_an_earlier_result(
    result: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.json").write_text(json.dumps(result))
    assert cli.main(["--report", str(tmp_path / "out"), "--add", str(tmp_path / "r.json")]) == 0
    assert capsys.readouterr().err == f"look at {tmp_path / 'out' / 'index.html'}\n"
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"index.html", "results.json", "rows.csv", "summary.md"}
    again = json.loads((tmp_path / "out" / "results.json").read_text())
    assert again == [result]


def test_without_jinja_it_is_said_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["absent.tflite", "--report", str(tmp_path)]) == 1
    assert capsys.readouterr().err.strip().endswith("pip install 'lightseg[report]'")


def test_nothing_is_left_of_a_page_that_could_not_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(shown: View) -> str:
        raise MissingExtra("--report", "report", "jinja2")

    monkeypatch.setattr("lightseg.benchmarks.page.render.as_html", fails)
    with pytest.raises(MissingExtra):
        write_report(tmp_path / "out", [])
    assert not (tmp_path / "out").exists()


def test_a_result_that_cannot_be_added_is_said_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["absent.tflite", "--report", str(tmp_path / "out"), "--add", str(tmp_path / "absent.json")]
    assert cli.main(argv) == 1
    assert "cannot read" in capsys.readouterr().err
