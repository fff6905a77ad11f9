"""A result of two rows, and the page made of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from lightseg.benchmarks.page.view import View, view
from lightseg.benchmarks.results.report import Report
from lightseg.benchmarks.timing.measure import Row
from lightseg.benchmarks.timing.subject import Subject

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


def scores(**percent: float) -> dict[str, Any]:
    """What lightseg-evaluate writes of candidates called so, and `read_results` makes of it."""
    pytest.importorskip("cv2", reason="scoring needs the extra train")
    from lightseg.benchmarks.evaluate_cli import _as_json
    from lightseg.train.evaluate import Result

    counts = np.array([[3, 1, 0], [1, 3, 0]])
    results = {
        name: Result(("a",), ("",), np.array([iou]), np.array([iou]), counts, (0, 1), ("background", "person"), ())
        for name, iou in percent.items()
    }
    return {"kind": "scores", **json.loads(json.dumps(_as_json(results, {}, {})))}


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
