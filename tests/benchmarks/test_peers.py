from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lightseg.benchmarks import cli, peers
from lightseg.benchmarks.peers import peer_subject
from lightseg.benchmarks.selection import artifact_subjects, is_foreign, other_side, plain_twin
from lightseg.benchmarks.timing.latency import Protocol
from lightseg.benchmarks.timing.measure import measure
from lightseg.errors import BadInput, UnknownName, Unsupported
from lightseg.export import export, load
from lightseg.zoo import create_model

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
    assert other_side(str(path)) == subject


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
    subject = other_side("sinet.random")
    assert subject.label == "sinet-random"


def test_the_other_side_may_be_a_named_peer(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = shared / "peers" / "selfie_segmentation.tflite"
    monkeypatch.setattr(peers, "_installed", lambda peer: file)
    assert other_side("selfie").label == "MediaPipe Selfie"


def test_the_other_side_may_be_the_general_converters_file(tmp_path: Path) -> None:
    """The same weights, size, head and format, under a label of its own."""
    pytest.importorskip("ncnn")
    pytest.importorskip("pnnx", reason="pnnx is not installed: lightseg[pnnx]")
    model = create_model("sinet", "random")
    ours = artifact_subjects([export(model, "ncnn", tmp_path, input_size=(64, 96), output="probability").path])[1]
    twin = plain_twin(ours, None, tmp_path / "plain", lambda line: None)
    assert (twin.runtime, twin.shape, twin.output) == ("ncnn", (1, 3, 64, 96), "probability")
    assert (ours.label, twin.label) == ("sinet-random", "sinet-random-plain")
    x = np.random.default_rng(0).normal(size=(1, 3, 64, 96)).astype(np.float32)
    answers = []
    for subject in (ours, twin):
        runner = load(Path(subject.path or ""))
        runner.feed(x)
        runner.run()
        answers.append(runner.fetch())
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-4)


def test_plain_compares_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--model", "sinet", "--weights", "random", "--against", "plain"]) == 1
    assert "add --to onnx" in capsys.readouterr().err


def test_a_named_peer_comes_from_the_cache_or_the_wheel(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    peer, said = peers.PEERS["selfie"], list[str]()
    data = (shared / "peers" / peer.file).read_bytes()
    monkeypatch.setattr(peers, "_from_wheel", lambda file: data if file == peer.file else b"")
    for _ in range(2):
        (path,) = peers.peer_files(["selfie"], said.append)
        assert path == tmp_path / "lightseg" / "peers" / peer.file
    assert len(said) == 1, "the second time it is in the cache"


def test_a_peer_that_changed_in_the_wheel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(peers, "_from_wheel", lambda file: b"another")
    with pytest.raises(Unsupported, match="sha256 differs"):
        peers.peer_files(["selfie"], lambda line: None)
    assert not list(tmp_path.rglob("*.tflite"))


def test_a_misspelt_peer() -> None:
    with pytest.raises(UnknownName, match="did you mean selfie"):
        peers.peer_files(["selfi"], lambda line: None)


def test_chances_become_the_logits_of_the_same_mask() -> None:
    chance = np.array([0, 0.2, 0.5, 0.8, 1], np.float32)
    logits = peers.as_logits(lambda x: x)(chance)
    assert np.isfinite(logits).all()
    assert 1 / (1 + np.exp(-logits)) == pytest.approx(chance, abs=1e-5)
