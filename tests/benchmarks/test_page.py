"""The report: everything on one page, nothing from the network, and numbers that are those of the result."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from lightseg.benchmarks import cli
from lightseg.benchmarks.page import plots
from lightseg.benchmarks.page.render import as_html, headline, write_report
from lightseg.benchmarks.page.sections import cards, further, panels, pictures
from lightseg.benchmarks.page.text import as_csv, as_markdown
from lightseg.benchmarks.page.view import View, read_results, score_of, view
from lightseg.benchmarks.results.cited import CITED
from lightseg.benchmarks.results.report import Report
from lightseg.benchmarks.timing.measure import Row
from lightseg.benchmarks.timing.subject import Subject
from lightseg.errors import BadInput, MissingExtra

pytest.importorskip("jinja2", reason="the page needs the extra report")

EAGER = Subject("sinet-clova", "PyTorch eager", (1, 3, 224, 224), None, model="sinet", weights="clova")
FILE = replace(EAGER, runtime="tflite", path="/x/sinet-clova-fp32.tflite", model=None, weights=None)
ENVIRONMENT = {
    "cpu": "A <CPU> & more",
    "virtual_machine": True,
    "affinity": [1],
    "time": "2026-11-22T10:00:00Z",
    "commit": "abc",
    "versions": {"torch": "2"},
}


@pytest.fixture
def result(measured: Callable[..., Row], answers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """PyTorch eager at about 1 ms, the file at half of it with a warm-up that never settled."""
    answers["sample"]["samples_ns"] = answers["sample"]["samples_ns"][:80]  # a bootstrap of few samples is quick
    eager = measured(subject=EAGER)
    for kind in ("sample", "repeat"):
        halved = {key: [ns // 2 for ns in answers[kind][key]] for key in ("samples_ns", "cpu_samples_ns")}
        answers[kind] = {**answers[kind], **halved}
    answers["warm_up"] = {**answers["warm_up"], "settled": False}
    file = measured(subject=FILE)
    report = Report([1], ENVIRONMENT, ["a.tflite", "--quick"], [eager, file], {"c.onnx": "it <died>"})
    data: dict[str, Any] = json.loads(json.dumps(report.to_dict()))
    return data


@pytest.fixture
def page(result: dict[str, Any]) -> View:
    return view([result])


class Tags(HTMLParser):
    """Every tag closed in its turn, and every address that would be fetched."""

    VOID = ("meta", "br", "hr", "path", "rect", "circle", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.seen: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        addresses = [value or "" for name, value in attrs if name in ("src", "href", "data")]
        self.fetched += [address for address in addresses if not address.startswith("data:image/")]
        if tag not in self.VOID or tag in ("rect", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID or tag in ("rect", "path"):
            assert self.open.pop() == tag


def test_the_page_needs_no_network_and_is_well_formed(page: View) -> None:
    html = as_html(page)
    tags = Tags(html)
    assert tags.fetched == []
    assert [tag for tag in tags.open if tag != "meta"] == []
    assert "@import" not in html and "url(" not in html
    assert tags.seen.count("svg") == 2 and tags.seen.count("table") == 2
    assert "A &lt;CPU&gt; &amp; more" in html and "it &lt;died&gt;" in html


def test_the_first_sentence_and_the_warning(page: View) -> None:
    assert headline(page) == (
        "sinet-clova takes 0.495 ms as tflite, 2.0 times as fast as PyTorch eager, by processor time."
    )
    html = as_html(page)
    assert html.index("2.0 times as fast") < html.index("1 of 2 rows NOISY") < html.index("All rows")
    assert "warm-up never settled" in html
    assert "1 PUBLISHABLE" in html and "0 INVALID" not in html


def test_the_first_sentence_is_not_about_peers(page: View) -> None:
    file = page.groups[0].lines[1]
    peer = replace(file, network="Selfie", runtime="tflite (peer)")
    others = replace(page.groups[0], network="Selfie", lines=(peer, replace(peer, threads=2)))
    assert headline(replace(page, groups=(page.groups[0], others))) == headline(page)
    assert "(peer)" not in plots.short(peer)


def test_rows_of_several_runs_say_so(result: dict[str, Any]) -> None:
    result["resumed"] = [{**ENVIRONMENT, "time": "2026-11-23T00:00:00Z", "commit": "def"}]
    assert "<dd>2026-11-23T00:00:00Z, commit def</dd>" in as_html(view([result]))


def test_an_invalid_row_is_never_the_fastest(page: View) -> None:
    eager, file = page.groups[0].lines
    group = replace(page.groups[0], lines=(eager, replace(file, verdict="INVALID")))
    assert group.fastest is eager
    assert "1 of 2 rows INVALID" in as_html(replace(page, groups=(group,)))


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


def test_accuracy_is_found_by_file_and_by_model(result: dict[str, Any]) -> None:
    scores = {
        "sinet-clova-fp32.tflite": {"per_image_person_iou": 95.1, "confusion_miou": 96.0},
        "sinet.clova": {"per_image_person_iou": 95.2},
    }
    shown = view([result, {"kind": "scores", "scores": scores}])
    assert [score_of(shown, line) for line in shown.lines] == [
        ("per_image_person_iou", 95.2),
        ("per_image_person_iou", 95.1),
    ]
    html = as_html(shown)
    assert "person IoU, mean over images, %" in html and "95.10" in html
    assert as_markdown(shown).splitlines()[0].endswith("| accuracy, % |")


def test_the_roofline_puts_a_row_under_its_ceilings(result: dict[str, Any]) -> None:
    result["ceilings"] = {"macs_per_second": 80e9, "bytes_per_second": 10e9, "how": "x"}
    result["costs"] = {"sinet-clova-fp32.tflite": {"macs": 64_000_000, "bytes_moved": 30_000_000}}
    html = as_html(view([result]))
    assert "matrix product: 80.0 GMAC/s" in html and "copy: 10.0 GB/s" in html
    assert "Against this machine's limits" not in as_html(view([{**result, "ceilings": None}]))


def test_counts_and_emulation_stand_on_the_page_too(result: dict[str, Any]) -> None:
    counted = {
        "kind": "counted",
        "artifacts": [
            {"name": "a.onnx", "counts": {"params": 5, "operators.conv": 3}, "missing": {"instructions": "no"}},
            {"name": "b.onnx", "counts": {"params": 1234}, "missing": {}},
        ],
    }
    row = {
        "artifact": "a.onnx",
        "instructions": 45_600_000,
        "counter": "qemu",
        "relative_error": None,
        "parity": [],
        "disagrees": None,
        "details": {"runtime": "onnxruntime", "version": "1"},
    }
    html = as_html(view([result, counted, {"kind": "emulated", "rows": [row]}]))
    for expected in ("1,234", "instructions, x86-64", "45.6", "not compared"):
        assert expected in html
    assert headline(view([counted])) == "Exact counts; nothing was timed."


LAYERS: dict[str, Any] = {
    "layers": [
        {"name": "stem", "op": "Conv", "kind": "conv", "value": 3.0},
        {"name": "stem_act", "op": "PRelu", "kind": "activation", "value": 1.0},
    ],
    "unit": "ms",
    "source": "a profiler",
}


def test_layers_are_shares_of_the_whole_and_say_what_they_are(result: dict[str, Any]) -> None:
    counted = {**LAYERS, "unit": "MACs", "source": "counted", "layers": [{**LAYERS["layers"][0], "bytes": 4}]}
    result["layers"] = {"a.onnx": LAYERS, "b.tflite": counted, "c.ncnn": {"reason": "no <profiler>"}}
    shown = view([result])
    profiled, work = panels(shown)
    assert [(kind.name, kind.share) for kind in profiled.kinds] == [("conv", 0.75), ("activation", 0.25)]
    assert not profiled.counted and work.counted and len(work.strips) == 2
    html = as_html(shown)
    assert "counted, not timed" in html and "c.ncnn: no &lt;profiler&gt;" in html
    pieces = re.findall(r'<rect class="k\d" x="([\d.]+)" y="0" width="([\d.]+)"', profiled.strips[0][1])
    assert len(pieces) == 2
    assert sum(map(float, pieces[-1])) == pytest.approx(1000, abs=1)


def test_masks_and_the_cards_that_show_them(result: dict[str, Any]) -> None:
    same = {
        "network": "sinet-clova",
        "precision": "fp32",
        "mask": "data:image/jpeg;base64,AA",
        "overlay": "data:image/x",
    }
    rows = [{**same, "runtime": name, "cutout": f"data:image/{name[0]}"} for name in ("PyTorch eager", "tflite")]
    other = {**rows[0], "runtime": "onnx", "mask": "data:image/jpeg;base64,BB"}
    lost = {"network": "sinet-clova", "runtime": "ncnn", "precision": "", "reason": "it died"}
    result["samples"] = {"photo": "data:image/jpeg;base64,CC", "rows": [*rows, other, lost]}
    shown = view([result])
    assert [runtimes for runtimes, _ in pictures(shown)[0][1]] == [["PyTorch eager", "tflite"], ["onnx"]]
    (card,) = cards(shown)
    assert (card.line.runtime, card.picture) == ("tflite", "data:image/t")
    tags = Tags(as_html(shown))
    assert tags.fetched == []
    assert tags.seen.count("img") == 1 + 1 + 2 * 3


def test_a_boundary_nobody_foresaw_has_a_column(result: dict[str, Any]) -> None:
    result["rows"][1]["summary"]["across_the_wire"] = {**result["rows"][1]["summary"]["run"], "median_ms": 7.25}
    shown = view([result])
    assert "across_the_wire" in further(shown)
    html = as_html(shown)
    assert "<th>across the wire</th>" in html and "7.25" in html


def test_published_cited_measured_and_predicted_never_share_a_column(result: dict[str, Any]) -> None:
    result["cited"] = [*result["cited"], {**result["cited"][0], "kind": "predicted", "milliseconds": 77.7}]
    html = as_html(view([result]))
    assert "77.7" not in html, "only what is cited may stand under that heading"
    (table,) = (part for part in html.split("<table") if "ms, cited" in part)
    body = table.partition("</table>")[0]
    for citation in CITED:
        assert f"<td>{citation.milliseconds}</td>" in body and citation.source in body and citation.read in body
        assert citation.kind == "cited"
    measured = [number for line in view([result]).lines for number in (f"{line.p50:.3g}",)]
    assert not any(f"<td>{number}</td>" in body for number in measured)
    elsewhere = as_markdown(view([result])) + as_csv(view([result]))
    assert "Qualcomm" not in elsewhere
    assert "published" not in html and "predicted." in html


@pytest.mark.parametrize(("low", "high"), [(0.9, 1.1), (3, 60), (0.5, 900), (0.001, 5000), (99.9, 100.1)])
def test_ticks_lie_inside_and_are_few(low: float, high: float) -> None:
    ticks = plots.log_ticks(low, high)
    assert 1 <= len(ticks) <= 9
    assert all(low <= tick <= high for tick in ticks)
    assert all(low <= tick <= high for tick in plots.linear_ticks(low, high))
    assert len(plots.linear_ticks(low, high)) <= 7


def test_labels_do_not_lie_on_each_other() -> None:
    placed = plots.spread([10, 11, 12, 200], apart=15)
    assert placed == [10, 25, 40, 200]


def test_bars_begin_at_zero_and_stay_in_the_picture(page: View) -> None:
    widths = [float(w) for w in re.findall(r'<rect[^>]* width="([\d.]+)"', plots.bars(page.groups[0]))]
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.01)
    assert max(widths) < plots.WIDTH - plots.LEFT


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


def test_a_busy_machine_is_judged_by_processor_time(page: View) -> None:
    (group,) = page.groups
    eager, file = group.lines
    slow = {**file.statistics, "run": {**file.statistics["run"], "median_ms": 9.0}}
    crowded = replace(group, lines=(eager, replace(file, statistics=slow)))
    assert crowded.by_processor_time and crowded.fastest.runtime == "tflite"
    assert 'class="cpu"' in plots.bars(crowded)
    quiet = replace(group, lines=(eager, replace(file, verdict="PUBLISHABLE", statistics=slow)))
    assert not quiet.by_processor_time and quiet.fastest is eager
    assert headline(replace(page, groups=(quiet,))).endswith("takes 1 ms as PyTorch eager.")
