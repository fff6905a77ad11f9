from __future__ import annotations

import pytest
import torch
from torch import nn

from lightseg.train.recipe import Recipe
from lightseg.train.schedule import MovingAverage, clamp_slopes, learning_rate, optimiser, parameter_groups
from lightseg.zoo import MODELS


@pytest.mark.parametrize(
    ("recipe", "step", "expected"),
    [
        (Recipe("sinet", schedule="cosine", lr=1, epochs=10, warmup_steps=20), 0, 1 / 20),
        (Recipe("sinet", schedule="cosine", lr=1, epochs=10, warmup_steps=20), 19, 1.0),
        (Recipe("sinet", schedule="cosine", lr=1, epochs=10, warmup_steps=20), 60, 0.5),
        (Recipe("sinet", schedule="cosine", lr=1, epochs=10, warmup_steps=0), 100, 0.0),
        (Recipe("sinet", schedule="halve", lr=1, epochs=300), 1499, 1.0),
        (Recipe("sinet", schedule="halve", lr=1, epochs=300), 1500, 0.5),
        (Recipe("sinet", schedule="halve", lr=1, epochs=300), 2499, 0.5),
        (Recipe("sinet", schedule="halve", lr=1, epochs=300), 2500, 0.25),
        (Recipe("sinet", schedule="poly", lr=0.045, epochs=1500, warmup_share=0.05), 0, 0.045 * (1 / 75) ** 0.98),
        (Recipe("sinet", schedule="poly", lr=0.045, epochs=1500, warmup_share=0.05), 750, 0.045),
        (Recipe("sinet", schedule="poly", lr=0.045, epochs=1500, warmup_share=0.05), 14990, 0.045 * (1 / 1425) ** 0.98),
    ],
)
def test_learning_rates_follow_their_formulas(recipe: Recipe, step: int, expected: float) -> None:
    assert learning_rate(recipe, step, 10) == pytest.approx(expected)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_is_in_one_group(name: str) -> None:
    net = MODELS[name].build()
    recipe = Recipe(name, decay_dense=3.0, decay_depthwise=2.0, decay_other=1.0)
    groups = parameter_groups(net, recipe)
    grouped = [id(p) for g in groups for p in g["params"]]  # type: ignore[attr-defined]
    assert sorted(grouped) == sorted(id(p) for p in net.parameters())
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}  # type: ignore[attr-defined]
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            single = module.weight.shape[1] == 1 and module.groups > 1
            assert decay[id(module.weight)] == (2.0 if single else 3.0)
        elif isinstance(module, (nn.BatchNorm2d, nn.PReLU)):
            assert decay[id(module.weight)] == 1.0


def test_the_average_is_the_exponential_one() -> None:
    net = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(net.weight, 0.0)
    average = MovingAverage(net, 0.5)
    expected = 0.0
    for step in range(1, 30):
        nn.init.constant_(net.weight, float(step))
        average.update(net)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert float(average.net.state_dict()["weight"]) == pytest.approx(expected, rel=1e-5)


def test_slopes_are_kept_in_range() -> None:
    act = nn.PReLU(3)
    with torch.no_grad():
        act.weight.copy_(torch.tensor([-4.0, 0.3, 9.0]))
    clamp_slopes(nn.Sequential(act), 1.0)
    assert act.weight.tolist() == pytest.approx([-1, 0.3, 1])


def test_sgd_without_momentum_is_plain() -> None:
    (first, *_) = optimiser(nn.Conv2d(3, 3, 1), Recipe("sinet", optimiser="sgd", momentum=0)).param_groups
    assert first["momentum"] == 0 and not first["nesterov"]
