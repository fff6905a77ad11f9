"""The weights that travel in the package are what their cards and entries say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from lightseg.spec import ModelSpec, Weights
from lightseg.train import evaluate as scoring
from lightseg.train.layouts import find_pairs
from lightseg.weights import PACKAGED, load_path
from lightseg.zoo import MODELS, create_model

ENTRIES = [(s, w) for s in MODELS.values() for w in s.weights if w.packaged]
packaged = pytest.mark.parametrize(("spec", "weights"), ENTRIES, ids=[f"{s.name}.{w.tag}" for s, w in ENTRIES])


LIMIT = {"lightseg": 400_000, "camvid": 1_000_000}
"""Bytes: SINet for streets alone has 129,069 values of four."""
STEEPEST = {"lightseg": 1.0, "camvid": 4.8}
"""The largest PReLU slope; CamVid's training leaves those of the released weights, which reach 4.77, as they are."""
RELEASED_DEAD = {
    "c3net.camvid": {"encoder.stem.conv", *(f"encoder.level3.7.blocks.{n}.6" for n in (1, 2, 3))},
    "c3netv2.camvid": {f"encoder.level3.7.blocks.{n}.6" for n in (0, 2)},
}
"""Convolutions with dead filters in the release; CamVid's training starts there and does not reawaken them."""


DATA = {"portrait": ("pairs", "portrait_val", (224, 224)), "street": ("camvid", "street_val", (384, 512))}


@pytest.mark.parametrize("name", ["sinet", "extremec3net"])
def test_portrait_networks_are_packaged_and_the_default(name: str) -> None:
    assert MODELS[name].weights[0].tag == "lightseg" and MODELS[name].weights[0].packaged


@packaged
def test_file_card_and_entry_agree(spec: ModelSpec, weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIGHTSEG_WEIGHTS", raising=False)
    path = PACKAGED / weights.file
    assert path.stat().st_size <= LIMIT[weights.tag]
    assert load_path(spec, path)[0] == weights
    assert create_model(f"{spec.name}.{weights.tag}").weights.sha256 == weights.sha256
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    for figure in weights.figures.values():
        assert f"{figure.value:.2f}" in card


@packaged
def test_the_file_says_itself_how_it_is_fed(
    spec: ModelSpec, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file, save_file

    import lightseg.weights as module

    tensors = load_file(PACKAGED / weights.file)
    described = module._read(PACKAGED / weights.file)[1]
    tensors = {k: v.clone() for k, v in tensors.items()}
    save_file(tensors, tmp_path / "moved.safetensors", {**described, "note": "another file, so another hash"})
    record, _ = load_path(spec, tmp_path / "moved.safetensors")
    assert record.tag == weights.tag and record.preprocess == weights.preprocess
    assert record.licence == weights.licence and record.figures == weights.figures


@packaged
def test_the_weights_are_clean(spec: ModelSpec, weights: Weights) -> None:
    net = create_model(f"{spec.name}.{weights.tag}").net
    slopes = torch.cat([m.weight.detach() for m in net.modules() if isinstance(m, nn.PReLU)])
    assert float(slopes.abs().max()) <= STEEPEST[weights.tag]
    for value in net.state_dict().values():
        assert bool(torch.isfinite(value).all())
        if value.is_floating_point():
            assert float(value.abs().max()) < 65504, "outside half precision"
            assert not bool(((value != 0) & (value.abs() < torch.finfo(torch.float32).tiny)).any()), "denormal"
    convolutions = ((n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d))
    dead = {n for n, m in convolutions if float(m.weight.detach().abs().amax((1, 2, 3)).min()) == 0}
    assert dead == RELEASED_DEAD.get(f"{spec.name}.{weights.tag}", set())


@pytest.mark.slow
@packaged
def test_the_figures_are_reproduced(spec: ModelSpec, weights: Weights, shared: Path) -> None:
    model = create_model(f"{spec.name}.{weights.tag}")
    layout, folder, size = DATA[spec.task]
    pairs = find_pairs(layout, shared / "data", folder)
    task = scoring.Task(pairs, layout, size, weights.preprocess, spec.labels)
    result = scoring.evaluate(scoring.of_network(model.net), task)
    for name, figure in weights.figures.items():
        found = result.miou if name == "miou" else float(result.of(name.removeprefix("iou_")).mean())
        assert found == pytest.approx(figure.value, abs=0.02)
