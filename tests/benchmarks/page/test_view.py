"""What stands on the page: the numbers of the result, and the kinds apart."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from typing import Any

import pytest

from lightseg.benchmarks.page import plots
from lightseg.benchmarks.page.render import accuracy_plot, as_html, headline
from lightseg.benchmarks.page.sections import cards, further, panels, pictures
from lightseg.benchmarks.page.text import as_csv, as_markdown
from lightseg.benchmarks.page.view import View, groups, score_of, view
from lightseg.benchmarks.peers import PEERS
from lightseg.benchmarks.results.cited import CITED
from lightseg.benchmarks.timing.subject import PEER
from tests.benchmarks.page.conftest import ENVIRONMENT, Tags, scores

pytest.importorskip("jinja2", reason="the page needs the extra report")


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
    peer = replace(file, network="Selfie", runtime="tflite (peer)", note="another network; fed RGB")
    others = replace(page.groups[0], network="Selfie", lines=(peer, replace(peer, runtime="LiteRT.js")))
    assert headline(replace(page, groups=(page.groups[0], others))) == headline(page)
    assert "(peer)" not in plots.short(peer)


def test_the_general_converters_file_stands_beside_ours_and_never_for_the_network(page: View) -> None:
    eager, file = page.groups[0].lines
    run = {name: {**one, "median_ms": 0.01} for name, one in file.statistics.items()}
    plain = replace(file, network=f"{file.network}-plain", statistics=run)
    (group,) = groups([plain, eager, file])
    assert group.network == file.network and group.lines == (eager, file, plain) and group.fastest is file
    assert (plots.short(plain), plots.short(file)) == ("tflite plain", "tflite")
    assert groups([plain])[0].fastest is plain
    html = as_html(replace(page, groups=(group,)))
    assert "plain: the general converter" in html and headline(replace(page, groups=(group,))) == headline(page)


def test_cards_without_pictures_leave_no_room_for_them(page: View) -> None:
    assert 'class="cards bare"' in as_html(page)


def test_rows_of_several_runs_say_so(result: dict[str, Any]) -> None:
    result["resumed"] = [{**ENVIRONMENT, "time": "2026-11-23T00:00:00Z", "commit": "def"}]
    assert "<dd>2026-11-23T00:00:00Z, commit def</dd>" in as_html(view([result]))


def test_an_invalid_row_is_never_the_fastest(page: View) -> None:
    eager, file = page.groups[0].lines
    group = replace(page.groups[0], lines=(eager, replace(file, verdict="INVALID")))
    assert group.fastest is eager
    assert "1 of 2 rows INVALID" in as_html(replace(page, groups=(group,)))


def test_accuracy_is_found_by_file_and_by_model(result: dict[str, Any]) -> None:
    shown = view([result, scores(**{"out/sinet-clova-fp32.tflite": 95.1, "sinet.clova": 95.2})])
    assert [score_of(shown, line) for line in shown.lines] == [
        ("per_image_person_iou", 95.2),
        ("per_image_person_iou", 95.1),
    ]
    html = as_html(shown)
    assert "person IoU, mean over images, %" in html and "95.10" in html
    plot = accuracy_plot(shown) or ""
    assert plot.count("<circle") == 2 and plot.count(f">{shown.groups[0].network}</text>") == 1
    assert all(f"<title>{line.name}: " in plot for line in shown.lines)
    assert as_markdown(shown).splitlines()[0].endswith("| accuracy, % |")


def test_a_model_may_be_called_without_its_default_tag(result: dict[str, Any]) -> None:
    released, _ = view([result]).lines
    ours = replace(released, network="sinet-lightseg")
    shown = view([scores(sinet=95.2)])
    assert score_of(shown, ours) == ("per_image_person_iou", 95.2) and score_of(shown, released) is None


@pytest.mark.parametrize("name", ["selfie", "selfie_landscape", "peers/selfie_segmentation.tflite"])
def test_accuracy_of_a_peer_is_found_by_its_name_and_by_its_file(name: str, page: View) -> None:
    known = PEERS.get(name, PEERS["selfie"])
    peer = replace(page.lines[1], network=known.label, runtime=f"tflite{PEER}", file=known.file)
    assert score_of(view([scores(**{name: 95.9})]), peer) == ("per_image_person_iou", 95.9)
    assert score_of(view([scores(sinet=95.9)]), peer) is None


def test_a_row_never_has_a_score_that_it_was_not_given(page: View) -> None:
    eager, file = page.lines
    shown = view([scores(**{"sinet.clova": 95.2, "sinet.clova with noise of 3": 90.0})])
    other = replace(eager, shape=(1, 3, 64, 64))
    half = replace(eager, runtime="PyTorch eager fp16", precision="fp16")
    assert [score_of(shown, line) for line in (file, other, half)] == [None, None, None]
    assert score_of(shown, replace(eager, shape=(8, 3, 224, 224))) == ("per_image_person_iou", 95.2)
    twice = view([scores(**{"a/sinet-clova-fp32.tflite": 95.1, "b/sinet-clova-fp32.tflite": 93.0})])
    assert score_of(twice, file) is None, "nothing says which of the two it is"


def test_sizes_of_one_network_keep_their_own_scores(result: dict[str, Any]) -> None:
    small = copy.deepcopy(result)
    for row in small["rows"]:
        row["subject"]["shape"] = [1, 3, 64, 64]
    small["rows"][1]["subject"]["path"] = "/x/sinet-clova-fp32-64x64.tflite"
    given = scores(**{"out/sinet-clova-fp32.tflite": 95.1, "out/sinet-clova-fp32-64x64.tflite": 40.2})
    shown = view([result, small, given])
    body = as_html(shown).partition("All rows")[2].partition("</tbody>")[0]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in body.split("<tr>")[2:]]
    assert [(row[1], row[2], row[-2]) for row in cells] == [
        ("PyTorch eager", "224×224", "—"),
        ("tflite", "224×224", "95.10"),
        ("PyTorch eager", "64×64", "—"),
        ("tflite", "64×64", "40.20"),
    ]
    plot = accuracy_plot(shown) or ""
    for size in ("224×224", "64×64"):
        assert plot.count(f">sinet-clova, {size}</text>") == 1 and f"<title>sinet-clova, tflite, {size}: " in plot


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
