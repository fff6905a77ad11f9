from __future__ import annotations

from pathlib import Path

import pytest

from lightseg.benchmarks.latency import Protocol
from lightseg.benchmarks.measure import measure
from lightseg.benchmarks.peers import peer_subject
from lightseg.benchmarks.selection import is_foreign, other_side
from lightseg.errors import BadInput

pytest.importorskip("ai_edge_litert")


@pytest.mark.parametrize(
    ("file", "label", "shape"),
    [
        ("selfie_segmentation", "MediaPipe Selfie", (1, 3, 256, 256)),
        ("selfie_segmentation_landscape", "MediaPipe Selfie landscape", (1, 3, 144, 256)),
    ],
)
def test_known_peers(shared: Path, file: str, label: str, shape: tuple[int, ...]) -> None:
    path = shared / "peers" / f"{file}.tflite"
    subject = peer_subject(path)
    assert (subject.label, subject.shape) == (label, shape)
    assert is_foreign(path)
    assert other_side(str(path), "cpu") == subject


def test_a_peer_runs_under_the_same_protocol(shared: Path) -> None:
    subject = peer_subject(shared / "peers" / "selfie_segmentation_landscape.tflite")
    protocol = Protocol(samples=6, seconds=0, processes=1, warmup_seconds=0.1, window_seconds=0.01, inputs=4)
    row = measure(subject, protocol, [0])
    assert row.run.count == 6
    assert row.details["delegate"] == "XNNPACK"
    assert row.processes[0].sampled["audit"]["distinct"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no \.tflite file"):
        peer_subject(tmp_path / "x.onnx")
    with pytest.raises(BadInput, match="check the path"):
        peer_subject(tmp_path / "x.tflite")


def test_the_other_side_may_be_a_model() -> None:
    subject = other_side("sinet.random", "cpu")
    assert subject.label == "sinet-random"
