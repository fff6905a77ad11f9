"""--explain: counts add up, agree with an independent count, and are booked to the rewrite that made the change."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings

from lightseg.benchmarks.rewritten import count_graph
from lightseg.export import cli
from lightseg.export.explain import explain_rewrites
from lightseg.export.graph import ops
from lightseg.export.graph.cost import NOTHING, cost
from lightseg.export.rewrites import fold_affine, push_permute, rewrite
from lightseg.export.targets import TARGETS
from lightseg.zoo import MODELS
from tests.export.random_graphs import STEADY, Builder, graphs, sketch
from tests.export.subjects import all_rewrites, graph_of, images, plain, small_size

SIZE = "x".join(map(str, small_size("sinet")))
RANDOM = ["--model", "sinet", "--weights", "random", "--input-size", SIZE, "--explain"]


@pytest.fixture
def _captured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightseg.export.explain.capture", lambda *_: copy.deepcopy(plain("sinet").graph))


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "sinet")) for n in MODELS])
def test_changes_add_up_and_the_graph_is_the_one_a_target_gets(name: str) -> None:
    table = TARGETS["tflite"].rewrites()
    explained, plain = graph_of(name), graph_of(name)
    before, steps = explain_rewrites(explained, table)
    assert {s.rewrite: s.places for s in steps} == rewrite(plain, table)
    after = cost(plain, plain.meta["input_shape"])
    assert sum((s.change for s in steps), before) == after == cost(explained, explained.meta["input_shape"])


@given(arguments=graphs())
@settings(STEADY, max_examples=30)
def test_changes_of_random_graphs_add_up(arguments: tuple[list[str], int]) -> None:
    graph = sketch(*arguments)
    before, steps = explain_rewrites(graph, tuple(all_rewrites().values()))
    assert sum((s.change for s in steps), before) == cost(graph, graph.meta["input_shape"])
    assert all(s.change == NOTHING for s in steps if not s.places)


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("name", ["sinet", pytest.param("c3net", marks=pytest.mark.slow)])
def test_macs_agree_with_the_benchmarks_own_count(name: str, done: bool) -> None:
    graph = graph_of(name)
    if done:
        rewrite(graph, TARGETS["tflite"].rewrites())
    counted = count_graph(graph, images(name).float())
    assert cost(graph, graph.meta["input_shape"]).macs == counted.macs > 0


def test_a_small_graph_counted_by_hand() -> None:
    b = Builder((1, 3, 4, 4))
    grouped = b.call(b.conv(4, 6, groups=2, bias=True), b.call(b.conv(3, 4, (3, 3), bias=False), b.image))
    shift = torch.arange(6.0, dtype=torch.float64)
    graph = b.finish(b.call(b.shuffle(6), b.call(ops.Affine(torch.full_like(shift, 2.0), shift), grouped)))
    found = cost(graph, (1, 3, 4, 4))
    assert found.ops == Counter({"conv": 1, "grouped conv": 1, "affine": 1, "permute": 1}) and found.count == 4
    assert found.macs == 16 * (4 * 3 * 9 + 6 * 2) and found.transposes == 1
    floats = [16 * 7 + 108, 16 * 10 + 18, 2 * 16 * 12 + 12, 16 * 12 + 6]
    assert found.bytes_moved == 4 * sum(floats)


def test_what_nothing_needs_costs_nothing() -> None:
    b = Builder((1, 3, 4, 4))
    first = b.call(b.conv(3, 4), b.image)
    graph = b.finish(first)
    before = cost(graph, (1, 3, 4, 4))
    with graph.graph.inserting_after(next(iter(graph.graph.nodes))):
        graph.add_module("dead", b.conv(3, 4))
        graph.graph.call_module("dead", (next(iter(graph.graph.nodes)),))
    assert cost(graph, (1, 3, 4, 4)) == before


def test_a_change_is_booked_to_the_rewrite_that_made_it() -> None:
    """The affine behind a shuffle can be folded only once the permutation has gone past it."""
    b = Builder((1, 3, 4, 4))
    shuffled = b.call(b.shuffle(4), b.call(b.conv(3, 4), b.image))
    graph = b.finish(b.call(b.conv(4, 2), b.call(b.affine(4), shuffled)))
    _, (fold, push) = explain_rewrites(copy.deepcopy(graph), (fold_affine, push_permute))
    assert fold.change.ops == Counter({"affine": -1}) and fold.change.transposes == 0
    assert push.change.ops == Counter({"permute": -1}) and push.change.transposes == -1
    assert (fold.places, push.places) == (1, 2) and "convolution" in fold.reason


@pytest.mark.usefixtures("_captured_once")
def test_the_command_writes_no_file_and_says_what_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*RANDOM, "--to", "all", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for target in TARGETS.values():
        assert f"for {target.name}" in said and all(r.__name__ in said for r in target.rewrites())
    assert "captured" in said and "written" in said and not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_captured_once")
def test_the_commands_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has to be installed for a target to be explained."""
    monkeypatch.setattr("lightseg.export.targets.target.find_spec", lambda name: None)
    assert cli.main([*RANDOM, "--to", "tflite,onnx", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["target"], second["target"]) == ("tflite", "onnx") and first["before"] == second["before"]
    for found in (first, second):
        for key in ("ops", "macs", "bytes_moved", "transposes"):
            assert found["before"][key] + sum(s[key] for s in found["steps"]) == found["after"][key]
    assert first["after"]["transposes"] == 0 < first["before"]["transposes"]


@pytest.mark.parametrize("wrong, said", [(["--to", "onxx"], "onnx"), (["--to", "onnx", "--output", "maks"], "mask")])
def test_wrong_words_are_one_line(wrong: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*RANDOM, *wrong]) == 1
    assert f"did you mean {said}" in capsys.readouterr().err
