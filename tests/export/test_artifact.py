"""An artifact and its record stay together, and whatever is wrong with either is one clear line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from lightseg.errors import BadInput
from lightseg.export import load, read_artifact, verify
from lightseg.export.artifact import Artifact, Golden
from lightseg.export.targets import TARGETS
from lightseg.files import sha256_of
from lightseg.zoo import MODELS
from tests.export.conftest import Exported
from tests.export.random_graphs import STEADY
from tests.export.subjects import SLOW_WRITERS, lively, small_size
from tests.export.targets_of import targets

BY_TARGET = pytest.mark.parametrize("target", targets(SLOW_WRITERS))


@pytest.fixture
def copied(exported: Exported, tmp_path: Path) -> Any:
    """``copied(target)``: a copy of the small SINet's artifact and sidecar that may be damaged."""

    def make(target: str) -> Path:
        artifact = exported("sinet", target)
        path = tmp_path / artifact.path.name
        (shutil.copytree if artifact.path.is_dir() else shutil.copy)(artifact.path, path)
        shutil.copy(artifact.sidecar, path.with_name(path.name + ".json"))
        return path

    return make


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _through_json(artifact: Artifact) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(json.dumps(artifact.to_dict()))
    return facts


@BY_TARGET
def test_sidecar_holds_all_facts(target: str, exported: Exported) -> None:
    made = exported("sinet", target)
    read = read_artifact(made.path)
    assert _through_json(read) == _through_json(made)
    assert read.sha256 == sha256_of(made.path)
    model = lively("sinet")
    assert (read.labels, read.preprocess) == (model.spec.labels, model.weights.preprocess)
    assert (read.model, read.tag, read.target, read.precision) == ("sinet", "random", target, "fp32")
    assert read.weights == {k: getattr(model.weights, k) for k in ("tag", "sha256", "licence", "origin")}
    assert read.size == small_size("sinet") and read.multiple == 32
    assert read.output_shape == (1, 2, *small_size("sinet"))
    assert {"python", "lightseg", "torch"} <= read.versions.keys() and "unknown" not in read.versions.values()
    assert read.parity is not None and read.parity["ok"] is True and read.parity["reference"] == "torch float64"
    assert [g.probe for g in read.golden] == ["photo", "scene"]


@BY_TARGET
def test_record_inside_the_file_says_the_same(target: str, copied: Any) -> None:
    path = copied(target)
    beside = read_artifact(path)
    _sidecar(path).unlink()
    inside = read_artifact(path)
    assert _through_json(inside) | {"sha256": ""} == _through_json(beside) | {"sha256": ""}
    assert verify(path).goldens


@BY_TARGET
def test_names_follow_what_was_asked(target: str, exported: Exported) -> None:
    height, width = small_size("sinet")
    suffix = TARGETS[target].suffix
    assert exported("sinet", target).path.name == f"sinet-random-fp32-{height}x{width}{suffix}"


def test_names_hold_every_option(exported: Exported) -> None:
    height, width = small_size("sinet")
    artifact = exported("sinet", "onnx", dynamic=True, preprocess="baked", output="mask")
    assert artifact.path.name == f"sinet-random-fp32-{height}x{width}-mask-baked-dynamic.onnx"


def _change(path: Path, **facts: Any) -> None:
    data = json.loads(_sidecar(path).read_text(encoding="utf-8"))
    _sidecar(path).write_text(json.dumps(data | facts), encoding="utf-8")


def _drop(path: Path, fact: str) -> None:
    data = json.loads(_sidecar(path).read_text(encoding="utf-8"))
    del data[fact]
    _sidecar(path).write_text(json.dumps(data), encoding="utf-8")


def _cut(path: Path, share: float) -> None:
    for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
        data = file.read_bytes()
        file.write_bytes(data[: int(share * len(data))])


def _golden(path: Path, **facts: Any) -> None:
    data = json.loads(_sidecar(path).read_text(encoding="utf-8"))
    data["golden"][0]["image"] |= facts
    _sidecar(path).write_text(json.dumps(data), encoding="utf-8")


def _limit(path: Path, **facts: Any) -> None:
    data = json.loads(_sidecar(path).read_text(encoding="utf-8"))
    data["golden"][1] |= facts
    _sidecar(path).write_text(json.dumps(data), encoding="utf-8")


DAMAGE: dict[str, tuple[Any, str]] = {
    "no JSON": (lambda p: _sidecar(p).write_text("{"), "damaged"),
    "empty sidecar": (lambda p: _sidecar(p).write_text(""), "damaged"),
    "binary sidecar": (lambda p: _sidecar(p).write_bytes(b"\xff\xfe\x00\x9f"), "damaged"),
    "a list": (lambda p: _sidecar(p).write_text("[]"), "damaged"),
    "a number": (lambda p: _sidecar(p).write_text("3"), "damaged"),
    "a fact missing": (lambda p: _drop(p, "preprocess"), "damaged"),
    "a required fact missing": (lambda p: _drop(p, "tolerance"), "damaged"),
    "facts of another kind": (lambda p: _change(p, labels=[1, 2]), "damaged"),
    "golden no base64": (lambda p: _golden(p, zlib="!"), "damaged"),
    "golden cut": (lambda p: _golden(p, zlib="eJw="), "damaged"),
    "golden of another shape": (lambda p: _golden(p, shape=[1, 2, 3]), "damaged"),
    "golden of another type": (lambda p: _golden(p, dtype="nonsense"), "damaged"),
    "golden type of many digits": (lambda p: _golden(p, dtype="9" * 5000), "damaged"),
    "no goldens": (lambda p: _change(p, golden=[]), "no golden outputs, so it proves nothing"),
    "goldens no list": (lambda p: _change(p, golden={}), "no golden outputs"),
    "too deep": (lambda p: _sidecar(p).write_text("[" * 100_000), "damaged"),
    "another target's": (lambda p: _change(p, target="tflite"), "of target 'tflite', the file of onnx"),
    "another size": (lambda p: _change(p, input_shape=[1, 3, 32, 32]), "the file takes 32x32"),
    "a size that is none": (lambda p: _change(p, input_shape="abc"), "input_shape"),
    "an output nobody knows": (lambda p: _change(p, output="foo"), "unknown output 'foo'"),
    "an output that is no word": (lambda p: _change(p, output=["logits"]), "unknown output"),
    "no tolerance": (lambda p: _change(p, tolerance="x"), "tolerance"),
    "a tolerance of anything": (lambda p: _change(p, tolerance={"agreement": 1e308}), "tolerance"),
    "no labels": (lambda p: _change(p, labels={"names": [], "colours": []}), "0 labels"),
    "a class without a colour": (lambda p: _change(p, labels={"names": ["a", "b"], "colours": []}), "0 colours"),
    "weights that are a list": (lambda p: _change(p, weights=[]), "weights"),
    "weights without a hash": (lambda p: _change(p, weights={"tag": "x"}), "weights"),
    "a tag that is a number": (lambda p: _change(p, tag=3), "tag 3"),
    "preprocessing that divides by zero": (
        lambda p: _change(p, preprocess={"order": "RGB", "mean": [0, 0, 0], "std": [1, 0, 1]}),
        "preprocess",
    ),
    "preprocessing of words": (
        lambda p: _change(p, preprocess={"order": "RGB", "mean": "abc", "std": [1, 1, 1]}),
        "preprocess",
    ),
    "a limit that is no number": (lambda p: _limit(p, largest=float("nan")), "golden limits"),
    "a limit of anything": (lambda p: _limit(p, mean=float("inf")), "golden limits"),
    "near ties in words": (lambda p: _limit(p, ties="9"), "near ties"),
    "a stride of nothing": (lambda p: _limit(p, stride=0), "golden stride"),
    "another format": (lambda p: _change(p, format=99), "99"),
    "no format": (lambda p: _drop(p, "format"), "format"),
    "another file's sidecar": (lambda p: _change(p, sha256="0" * 64), "sha256"),
    "truncated file": (lambda p: _cut(p, 0.5), "sha256"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_one_clear_line(damage: str, copied: Any) -> None:
    path = copied("onnx")
    do, said = DAMAGE[damage]
    do(path)
    _refused(path, said)


def _refused(path: Path, said: str = ".") -> str:
    with pytest.raises(BadInput, match=said) as caught:
        verify(path)
    message = str(caught.value)
    assert "\n" not in message and path.name in message
    return message


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.97])
@BY_TARGET
def test_a_cut_file_without_sidecar_is_one_clear_line(target: str, share: float, copied: Any) -> None:
    path = copied(target)
    _sidecar(path).unlink()
    _cut(path, share)
    _refused(path)


@BY_TARGET
def test_swapped_file_is_noticed(target: str, copied: Any, exported: Exported) -> None:
    path, other = copied(target), exported("extremec3net", target).path
    if path.is_dir():
        shutil.rmtree(path)
        shutil.copytree(other, path)
    else:
        shutil.copy(other, path)
    assert "export it again" in _refused(path, "sha256")


@BY_TARGET
def test_foreign_file_is_one_clear_line(target: str, tmp_path: Path) -> None:
    path = tmp_path / f"foreign{TARGETS[target].suffix}"
    if TARGETS[target].folder:
        path.mkdir()
        (path / "Manifest.json").write_text("{}")
    else:
        path.write_bytes(bytes(range(256)) * 20)
    _refused(path)


def test_onnx_file_of_another_tool_has_no_record(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    x = onnx.helper.make_tensor_value_info("x", 1, [1])
    y = onnx.helper.make_tensor_value_info("y", 1, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Abs", ["x"], ["y"])], "g", [x], [y])
    path = tmp_path / "other.onnx"
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    _refused(path, "no lightseg record")


@pytest.mark.parametrize("name", ["photo.jpg", "model.pt", "onnx", ".onnx.json"])
def test_names_that_are_no_artifacts(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"x")
    _refused(path, "must end in")


@BY_TARGET
def test_missing_file_says_how_to_make_one(target: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="lightseg-export"):
        read_artifact(tmp_path / f"none{TARGETS[target].suffix}")


@BY_TARGET
def test_a_folder_is_no_file_and_a_file_no_folder(target: str, tmp_path: Path) -> None:
    path = tmp_path / f"wrong{TARGETS[target].suffix}"
    path.touch() if TARGETS[target].folder else path.mkdir()
    _refused(path, "is not a")


@BY_TARGET
def test_damaged_file_does_not_load(target: str, copied: Any) -> None:
    path = copied(target)
    _cut(path, 0.3)
    with pytest.raises(BadInput) as caught:
        load(path)
    assert "\n" not in str(caught.value)


@BY_TARGET
def test_stamping_twice_keeps_one_record(target: str, copied: Any) -> None:
    path = copied(target)
    TARGETS[target].stamp(path, "first")
    TARGETS[target].stamp(path, "zweite — ✓")
    assert TARGETS[target].read_record(path) == "zweite — ✓"


IMAGES = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=3, max_side=9))
NUMBERS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.floats(-(2.0**90), 2.0**90, width=32)
)


@given(image=IMAGES, samples=NUMBERS, mask=IMAGES, stride=st.integers(1, 64), ties=st.integers(0, 10**6))
@settings(STEADY, max_examples=100)
def test_goldens_survive_json_bit_by_bit(
    image: NDArray[np.uint8], samples: NDArray[np.float32], mask: NDArray[np.uint8], stride: int, ties: int
) -> None:
    golden = Golden("any", image, samples, stride, mask, ties, 0.25, 0.125)
    back = Golden.from_dict(json.loads(json.dumps(golden.to_dict())))
    assert (back.probe, back.stride, back.ties, back.largest, back.mean) == ("any", stride, ties, 0.25, 0.125)
    for name in ("image", "samples", "mask"):
        before, after = getattr(golden, name), getattr(back, name)
        assert after.dtype == before.dtype
        np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("name", MODELS)
def test_records_are_small(name: str, exported: Exported) -> None:
    """Goldens are for a file of hundreds of kilobytes; they must not dwarf it."""
    assert exported(name, "onnx").sidecar.stat().st_size < 250_000


def test_failed_name_is_still_of_its_target(exported: Exported, tmp_path: Path) -> None:
    artifact = exported("sinet", "onnx")
    path = tmp_path / (artifact.path.name + ".failed")
    shutil.copy(artifact.path, path)
    assert replace(read_artifact(path), path=artifact.path).model == "sinet"
