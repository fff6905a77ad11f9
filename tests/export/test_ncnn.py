"""ncnn end to end: two files that belong together, options that say what is computed, and refusals in one line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lightseg.errors import BadInput, ParityError, Unsupported
from lightseg.export import export, load, verify
from lightseg.export.artifact import Artifact
from lightseg.export.targets.folder import RECORD
from lightseg.export.targets.ncnn import BIN, PARAM, WIDE, NcnnRunner
from lightseg.export.writers.ncnn import write_ncnn
from lightseg.export.writers.ncnn_text import Layer, with_splits
from lightseg.export.writers.ncnn_weights import Weight, layers_in, weights_in
from tests.export.conftest import Exported
from tests.export.subjects import graph_of, lively, reference, require, small_size
from tests.export.test_coreml import replace_first_weight


@pytest.fixture(autouse=True)
def _installed() -> None:
    require("ncnn")


@pytest.fixture
def alone(exported: Exported, tmp_path: Path) -> Callable[..., Path]:
    """A copy of a small artifact without its sidecar."""

    def copy(name: str = "sinet", **options: str) -> Path:
        artifact = exported(name, "ncnn", **options)
        return Path(shutil.copytree(artifact.path, tmp_path / artifact.path.name))

    return copy


def test_an_artifact_is_two_files_and_its_record(exported: Exported) -> None:
    artifact = exported("sinet", "ncnn")
    assert {p.name for p in artifact.path.iterdir()} == {PARAM, BIN, RECORD}


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", "float32"), ("fp16", "float16")])
def test_every_byte_of_the_weights_is_accounted_for(precision: str, dtype: str) -> None:
    text, data = write_ncnn(graph_of("sinet"), (1, 3, *small_size("sinet")), "logits", half=precision == "fp16")
    weights = list(weights_in(layers_in(text), data))
    assert {w.dtype for w in weights} == {"float32", dtype}
    assert sum(4 + w.count * 2 + w.count % 2 * 2 for w in weights if w.dtype == "float16") < len(data)
    with pytest.raises(ValueError, match="follow the last weight"):
        list(weights_in(layers_in(text), data + b"\0\0\0\0"))


def test_blobs_with_several_readers_are_split_once_each() -> None:
    chain = [Layer("Input", "image", [], ["image"]), Layer("BinaryOp", "add", ["image", "image"], ["out"])]
    image, split, add = with_splits(chain)
    assert str(split) == "Split image_split 1 2 image image_0 image_1"
    assert add.inputs == ["image_0", "image_1"] and image.outputs == ["image"]


def test_parameters_are_written_as_ncnn_reads_them() -> None:
    layer = Layer("Any", "name", ["a"], ["b"], {0: 2, 1: 0.5, 3: [0, 7]})
    assert str(layer) == "Any name 1 1 a b 0=2 1=5.000000e-01 -23303=2,0,7"


def test_nothing_is_computed_in_fewer_bits(exported: Exported) -> None:
    runner = load(exported("sinet", "ncnn").path)
    assert isinstance(runner, NcnnRunner)
    assert not any(getattr(runner._net.opt, name) for name in WIDE)
    assert runner.details["off"].split(",") == list(WIDE) and runner.details["arithmetic"] == "float32"
    assert runner._net.opt.num_threads == 1 and runner.details["threads"] == "1"


def test_running_again_without_feeding_answers_the_same(exported: Exported) -> None:
    """ncnn computes in place where it may: not on the input of a benchmark's loop."""
    runner = load(exported("sinet", "ncnn", preprocess="baked").path)
    runner.feed(np.full((1, 3, *small_size("sinet")), 7, np.float32))
    runner.run()
    first = np.array(runner.fetch())
    runner.run()
    np.testing.assert_array_equal(runner.fetch(), first)


def test_half_weights_are_said_and_stored(exported: Exported) -> None:
    wide, narrow = (exported("sinet", "ncnn", precision=p) for p in ("fp32", "fp16"))
    assert (narrow.path / BIN).stat().st_size < 0.62 * (wide.path / BIN).stat().st_size
    for artifact, said in ((wide, "float32"), (narrow, "float16, biases and slopes float32")):
        assert artifact.parity is not None and artifact.parity["runner"]["weights"] == said
        assert artifact.parity["runner"]["arithmetic"] == "float32"


def test_a_weight_beyond_float16_is_refused_by_name() -> None:
    huge = replace_first_weight(reference("sinet").graph, 1e6)
    with pytest.raises(Unsupported, match=r"has a weight of 1e\+06, beyond the 65504.*--precision fp32"):
        write_ncnn(huge, (1, 3, *small_size("sinet")), "logits", half=True)


def _cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no text": (lambda p: (p / PARAM).unlink(), f"has no {PARAM}"),
    "no weights": (lambda p: (p / BIN).unlink(), f"has no {BIN}"),
    "text cut": (lambda p: _cut(p / PARAM, 0.7), "not a readable ncnn text"),
    "text empty": (lambda p: _cut(p / PARAM, 0), "not a readable ncnn text"),
    "text of bytes": (lambda p: (p / PARAM).write_bytes(b"\xff\xfe\x00"), "not a readable ncnn text"),
    "a line lost": (lambda p: _edit(p / PARAM, "Sigmoid", "\nSigmoid"), "not a readable ncnn text"),
    "weights cut": (lambda p: _cut(p / BIN, 0.7), f"does not belong to its {PARAM}"),
    "weights empty": (lambda p: _cut(p / BIN, 0), f"does not belong to its {PARAM}"),
    "weights too long": (lambda p: (p / BIN).write_bytes((p / BIN).read_bytes() + bytes(8)), "does not belong"),
    "unknown tag": (lambda p: (p / BIN).write_bytes(b"\x01" + (p / BIN).read_bytes()[1:]), "no known tag"),
    "unknown layer": (lambda p: _edit(p / PARAM, "Sigmoid", "Sigmoids"), r"does not load in ncnn \(code -1\)"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_one_clear_line(damage: str, alone: Callable[..., Path]) -> None:
    path = alone()
    do, said = DAMAGE[damage]
    do(path)
    for use in (load, verify):
        with pytest.raises(BadInput, match=said) as caught:
            use(path)
        assert "\n" not in str(caught.value) and "export it again" in str(caught.value)


def test_weights_of_another_network_are_refused(alone: Callable[..., Path], exported: Exported) -> None:
    path = alone()
    shutil.copy(exported("extremec3net", "ncnn").path / BIN, path)
    with pytest.raises(BadInput, match="does not belong"):
        load(path)


def _weights(path: Path) -> list[Weight]:
    text = (path / PARAM).read_text(encoding="utf-8")
    return list(weights_in(layers_in(text), (path / BIN).read_bytes()))


@pytest.mark.parametrize("which", [0, -1], ids=["first", "last"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_goldens_catch_a_changed_weight(precision: str, which: int, alone: Callable[..., Path]) -> None:
    path = alone(precision=precision)
    weight = [w for w in _weights(path) if w.count > 16][which]
    data = bytearray((path / BIN).read_bytes())
    values = np.frombuffer(data, weight.dtype, weight.count, weight.start)
    values[:] = values[::-1].copy()
    (path / BIN).write_bytes(data)
    with pytest.raises(ParityError, match="golden output"):
        verify(path)


def test_what_ncnn_cannot_run_is_an_error(alone: Callable[..., Path]) -> None:
    runner = load(alone())
    assert isinstance(runner, NcnnRunner)
    runner._output = "nothing"
    with pytest.raises(ParityError, match="stopped with code -1"):
        runner.run()


def test_two_conversions_give_the_same_bytes(exported: Exported, tmp_path: Path) -> None:
    first: Artifact = exported("sinet", "ncnn")
    again = export(lively("sinet"), "ncnn", tmp_path, reference=reference("sinet"), input_size=small_size("sinet"))
    assert again.sha256 == first.sha256
