"""A real Chromium with the real runtimes, where both are there."""

from __future__ import annotations

import json
import queue
from pathlib import Path

import numpy as np
import pytest

from lightseg.benchmarks.browser import chromium, runtimes, show
from lightseg.benchmarks.browser.child import Place
from lightseg.benchmarks.browser.mode import measure_in, subjects
from lightseg.benchmarks.browser.server import Server
from lightseg.benchmarks.timing.environment import available_cores
from lightseg.benchmarks.timing.latency import Protocol
from lightseg.errors import LightsegError
from lightseg.export.record import read_artifact
from lightseg.export.verification import load
from lightseg.images import read_photo, sample_photo
from lightseg.predict import predict_photo

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
SHORT = Protocol(samples=20, seconds=0, processes=1, warmup_seconds=1, inputs=3)


@pytest.fixture(scope="module")
def place() -> Place:
    folder = runtimes.default_folder()
    try:
        program = chromium.find()
        runtimes.require(folder)
    except LightsegError as error:
        pytest.skip(str(error))
    return Place(program, folder)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("target", ["onnx", "tflite"])
def test_a_file_answers_in_the_browser_as_in_pytorch(
    target: str, threads: int, small: dict[str, Path], place: Place
) -> None:
    cores = available_cores()[:threads]
    if len(cores) < threads:
        pytest.skip(f"{threads} threads need as many cores")
    row = measure_in(place, subjects([small[target]])[0], SHORT, cores, None)
    assert row.invalid == []
    assert row.processes[0].goldens["wrong"] == ""
    assert row.details["threads"] == str(threads)
    assert row.details["isolated"] == "yes"
    assert row.details["simd"] == "yes"
    assert row.details["wasm"].endswith(".wasm")
    assert 0 < row.processes[0].opened["clock_resolution_ns"] <= 100_000
    assert row.run.count == 20
    assert row.latency("image_to_mask") is not None


@pytest.mark.parametrize("target", ["onnx", "tflite"])
def test_the_page_shows_the_packages_mask(target: str, small: dict[str, Path], place: Place) -> None:
    artifact = read_artifact(small[target])
    site = show.demo_site(place.runtimes, [artifact.path], sample_photo())
    heard: queue.Queue[bytes] = queue.Queue()
    site.files["/harness"] = HERE / "harness.html"
    site.takes |= {"/picture": heard.put, "/words": heard.put}
    with Server(site) as server, chromium.Browser(place.program, f"{server.url}/harness?view=Mask"):
        picture, words = heard.get(timeout=120), json.loads(heard.get(timeout=60))
    assert words["state"] == "done", words["message"]
    shown = np.frombuffer(picture, np.uint8).reshape(*words["size"], 4)[..., 0] > 127
    photo = read_photo(sample_photo())
    want = predict_photo(load(artifact.path), photo, artifact.size, artifact.feeds, artifact.labels).mask > 0
    assert shown.shape == want.shape
    assert (shown == want).mean() > 0.999  # the two decode the JPEG apart
    assert float(words["run"]) > 0
