"""Weights files: what is loaded, what is refused, and with which words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lightseg.errors import WeightsError
from lightseg.spec import ModelSpec
from lightseg.weights import State, load_named, load_path, random_weights, save_weights, sha256, without_denormals
from lightseg.zoo import MODELS, SegmentationModel, create_model, find_weights

specs = pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS)
SINET = MODELS["sinet"]
DENORMALS = {"sinet": 3_444, "extremec3net": 11_018, "c3net": 927, "c3netv2": 1_181, "sinet_cityscapes": 0}


def one_line(error: pytest.ExceptionInfo[WeightsError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def denormals(state: State) -> int:
    tiny = torch.finfo(torch.float32).tiny
    return sum(int(((v != 0) & (v.abs() < tiny)).sum()) for v in state.values() if v.is_floating_point())


@pytest.fixture
def random_state() -> State:
    return random_weights(SINET, SINET.weights[0].preprocess)[1]


@pytest.mark.parametrize("name", MODELS)
def test_zeroing_denormals_changes_no_bit_of_the_logits(
    name: str, clova: Callable[[str], SegmentationModel], released: Path
) -> None:
    """The released tensors go in raw, past the loader, so that the comparison is with the denormals in place."""
    model, spec = clova(name), MODELS[name]
    raw = torch.load(released / find_weights(spec, "clova").file, map_location="cpu", weights_only=True)
    assert denormals(raw) == DENORMALS[name]
    assert denormals(model.net.state_dict()) == 0
    ours = model.net.state_dict()
    names = {k: k for k in ours}
    names.update({_our_name(spec.upstream_names, k): k for k in raw})
    net = spec.build().eval()
    net.load_state_dict({k: raw[u].reshape(ours[k].shape) if (u := names[k]) in raw else ours[k] for k in ours})
    assert denormals(net.state_dict()) == DENORMALS[name]
    size = (64, 64) if spec.task == "portrait" else (128, 256)
    std = torch.tensor(find_weights(spec, "clova").preprocess.std).view(3, 1, 1)
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1)) * 60 / std
    with torch.inference_mode():
        assert torch.equal(net(x), model(x))


def _our_name(rules: tuple[tuple[str, str], ...], name: str) -> str:
    import re

    for pattern, ours in rules:
        name = re.sub(pattern, ours, name)
    return name


def test_only_denormals_are_zeroed() -> None:
    tiny = torch.finfo(torch.float32).tiny
    state = {"a": torch.tensor([tiny / 2, -tiny / 4, tiny, -tiny, 0.0, 1.0]), "n": torch.tensor(3)}
    clean = without_denormals(state)
    assert clean["a"].tolist() == [0, 0, tiny, -tiny, 0, 1] and clean["n"] == 3
    assert state["a"][0] > 0, "the caller's tensors stay as they are"


@specs
def test_random_weights_are_seeded_and_labelled(spec: ModelSpec) -> None:
    name = spec.name
    before = torch.get_rng_state()
    first, again, other = (create_model(name, "random", seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers go on undisturbed"
    assert first.weights.tag == "random" and first.name == f"{name}-random"
    assert "architecture only" in first.weights.origin and not first.weights.figures
    assert first.weights.sha256 == again.weights.sha256 != other.weights.sha256
    x = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(first(x), again(x)) and not torch.equal(first(x), other(x))
        assert torch.isfinite(first(x)).all()


@specs
def test_safetensors_round_trip_keeps_tensors_and_description(spec: ModelSpec, tmp_path: Path) -> None:
    model = create_model(spec.name, "random", seed=3)
    path = tmp_path / "own.safetensors"
    digest = save_weights(path, model.spec, model.weights, model.net.state_dict())
    assert digest == sha256(path)
    back = create_model(model.spec.name, path)
    assert (back.weights.tag, back.weights.origin) == ("random", model.weights.origin)
    assert back.weights.preprocess == model.weights.preprocess and back.weights.sha256 == digest
    before, after = model.net.state_dict(), back.net.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(after[k], v) for k, v in before.items())
    assert save_weights(tmp_path / "again.safetensors", model.spec, model.weights, model.net.state_dict()) == digest


def test_figures_survive_the_round_trip(tmp_path: Path, random_state: State) -> None:
    weights = find_weights(SINET, "clova")
    save_weights(tmp_path / "a.safetensors", SINET, weights, random_state)
    assert load_path(SINET, tmp_path / "a.safetensors")[0].figures == weights.figures


def test_a_file_of_another_model_names_that_model(tmp_path: Path) -> None:
    other = create_model("extremec3net", "random")
    path = tmp_path / "x.safetensors"
    save_weights(path, other.spec, other.weights, other.net.state_dict())
    with pytest.raises(WeightsError) as error:
        create_model("sinet", path)
    assert "holds weights of extremec3net, not of sinet; use --model extremec3net" in one_line(error)


def test_released_file_of_another_model(released: Path) -> None:
    with pytest.raises(WeightsError) as error:
        create_model("sinet", released / "clova_extremec3net_portrait.pth")
    assert "is not a weights file of sinet" in one_line(error) and "check --model" in one_line(error)


@pytest.mark.parametrize("name", MODELS)
def test_a_released_file_is_recognised_by_its_hash(name: str, released: Path) -> None:
    model = create_model(name, released / find_weights(MODELS[name], "clova").file)
    assert model.weights.tag == "clova" and model.name == f"{name}-clova"


@pytest.mark.parametrize(
    "damage", ["empty", "text", "cut", "cut-safetensors", "text-safetensors", "list", "flipped-header"]
)
def test_damaged_files_get_one_clear_line(damage: str, tmp_path: Path, random_state: State) -> None:
    path = tmp_path / ("w.safetensors" if "safetensors" in damage else "w.pth")
    save_file(random_state, path) if "safetensors" in damage else torch.save(random_state, path)
    content = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "text": b"<html>404</html>",
            "text-safetensors": b"<html>404: not found</html>",
            "cut": content[: len(content) // 2],
            "cut-safetensors": content[: len(content) // 2],
            "flipped-header": b"XX" + content[2:],
            "list": content,
        }[damage]
    )
    if damage == "list":
        torch.save([1, 2], path)
    with pytest.raises(WeightsError) as error:
        create_model("sinet", path)
    assert str(path) in one_line(error)
    assert "cannot be read as weights" in one_line(error) or "no dictionary of tensors" in one_line(error)


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    import pickle

    class Attack:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
            return Path.touch, (tmp_path / "owned",)

    (tmp_path / "bad.pth").write_bytes(pickle.dumps({"weight": Attack()}))
    with pytest.raises(WeightsError):
        create_model("sinet", tmp_path / "bad.pth")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_refused_with_the_tensor_that_holds_it(value: float, tmp_path: Path, random_state: State) -> None:
    random_state["head.weight"].view(-1)[3] = value
    torch.save(random_state, tmp_path / "w.pth")
    with pytest.raises(WeightsError) as error:
        create_model("sinet", tmp_path / "w.pth")
    assert "head.weight holds NaN or infinity" in one_line(error)


def test_wrong_shape_missing_and_foreign_tensors(tmp_path: Path, random_state: State) -> None:
    path = tmp_path / "w.pth"
    torch.save({**random_state, "head.weight": torch.zeros(3, 144, 1, 1)}, path)
    with pytest.raises(WeightsError, match=r"head\.weight has shape \[3, 144, 1, 1\], expected \[2, 144, 1, 1\]"):
        create_model("sinet", path)
    torch.save({k: v for k, v in random_state.items() if k != "head.weight"}, path)
    with pytest.raises(WeightsError, match=r"1 tensors are missing and 0 are foreign \(for instance head\.weight\)"):
        create_model("sinet", path)
    torch.save({**random_state, "more": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="0 tensors are missing and 1 are foreign"):
        create_model("sinet", path)


def test_wrappers_of_training_scripts_are_seen_through(tmp_path: Path, random_state: State) -> None:
    """DataParallel's prefix, a surrounding dictionary and missing batch counters are no damage."""
    bare = {f"module.{k}": v for k, v in random_state.items() if "num_batches" not in k}
    torch.save({"state_dict": bare}, tmp_path / "w.pth")
    model = create_model("sinet", tmp_path / "w.pth")
    assert model.weights.tag == "custom" and "assumed" in model.weights.origin
    assert model.weights.preprocess == find_weights(SINET, "clova").preprocess
    loaded = model.net.state_dict()
    assert loaded.keys() == random_state.keys() and all(torch.equal(v, random_state[k]) for k, v in loaded.items())


@pytest.mark.parametrize("text", ["{", "{}", "[]", json.dumps({"model": "sinet", "tag": "x", "preprocess": 3})])
def test_damaged_description(text: str, tmp_path: Path, random_state: State) -> None:
    save_file(random_state, tmp_path / "w.safetensors", {"lightseg": text})
    with pytest.raises(WeightsError) as error:
        create_model("sinet", tmp_path / "w.safetensors")
    assert "its description is damaged" in one_line(error)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights file .*check the path"):
        create_model("sinet", tmp_path / "none.pth")


def test_named_weights_with_another_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random_state: State) -> None:
    weights = find_weights(SINET, "clova")
    torch.save(random_state, tmp_path / weights.file)
    monkeypatch.setenv("LIGHTSEG_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError) as error:
        load_named(SINET, weights)
    assert f"instead of {weights.sha256[:16]}" in one_line(error) and "delete it and run again" in one_line(error)
