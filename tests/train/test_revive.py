from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lightseg.train.revive import LARGEST, fed_by, rescale, revive, tidy, unit_input
from lightseg.zoo import MODELS, create_model

NETS = ("sinet", "extremec3net")


def probe(count: int = 4) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return nn.functional.interpolate(torch.randn(count, 3, 16, 16, generator=rng), size=64, mode="bilinear")


@pytest.mark.parametrize("name", NETS)
def test_unit_inputs_change_nothing(name: str, released: Path) -> None:
    model = create_model(f"{name}.clova")
    x = probe()
    before = model.net(x / 255)
    preprocess = unit_input(model.net, model.weights.preprocess)
    assert preprocess.std == pytest.approx([s / 255 for s in model.weights.preprocess.std], rel=0.05)
    factor = model.weights.preprocess.std[0] / preprocess.std[0]
    torch.testing.assert_close(model.net(x / 255 * factor), before, rtol=1e-3, atol=1e-4)


def test_rescaling_a_batch_norm_is_exact() -> None:
    bn = nn.BatchNorm2d(3, eps=1e-3).eval()
    assert bn.running_var is not None and bn.running_mean is not None
    bn.running_var.copy_(torch.tensor([1e-6, 1e-3, 2.0]))
    bn.running_mean.normal_()
    x, factor = torch.randn(2, 3, 4, 4), torch.tensor([300.0, 7.0, 0.5])
    before = bn(x)
    rescale(bn, factor)
    torch.testing.assert_close(bn(x * factor[:, None, None]), before, rtol=1e-4, atol=1e-5)


def silent(net: nn.Module) -> int:
    """Batch-norm channels no gradient reaches."""
    net.zero_grad()
    net.train()(probe()).square().mean().backward()
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    return sum(int((m.weight.grad.abs() < 1e-12).sum()) for m in norms if m.weight.grad is not None)


@pytest.mark.parametrize(("name", "least"), [("sinet", 0.95), ("extremec3net", 0.5)])
def test_dead_channels_learn_again(name: str, least: float, released: Path) -> None:
    model = create_model(f"{name}.clova")
    unit_input(model.net, model.weights.preprocess)
    before = silent(create_model(f"{name}.clova").net)
    counts = revive(model.net, probe())
    assert counts["weights"] > 50 and counts["norms"] > 100
    after = silent(model.net)
    assert before > 10 and before - after >= least * before
    for module in model.net.modules():
        if isinstance(module, nn.Conv2d):
            assert float(module.weight.detach().square().mean((1, 2, 3)).min()) > 0


def test_sinet_means_the_same_after_it(released: Path) -> None:
    model = create_model("sinet.clova")
    unit_input(model.net, model.weights.preprocess)
    before = copy.deepcopy(model.net)
    x = probe()
    revive(model.net, x)
    agreement = (model.net(x).argmax(1) == before(x).argmax(1)).float().mean()
    assert float(agreement) > 0.99


def test_the_dead_branch_of_extremec3net_gets_a_gradient(released: Path) -> None:
    def gradient(model: nn.Module) -> float:
        net = model.net
        assert isinstance(net, nn.Module)
        net.zero_grad()
        net(probe()).square().mean().backward()
        fine = net.get_submodule("fine.1.blocks")
        return sum(float(p.grad.abs().sum()) for p in fine.parameters() if p.grad is not None)

    model = create_model("extremec3net.clova")
    unit_input(model.net, model.weights.preprocess)
    assert gradient(model) < 1e-12
    revive(model.net, probe())
    assert gradient(model) > 1e-6


@pytest.mark.parametrize(("name", "pairs"), [("sinet", 40), ("extremec3net", 40)])
def test_most_batch_norms_have_their_convolution(name: str, pairs: int) -> None:
    assert len(list(fed_by(create_model(name, weights="random").net))) >= pairs


@pytest.mark.parametrize("name", MODELS)
def test_tidying_changes_no_answer_and_leaves_unit_variances(name: str) -> None:
    net = create_model(name, weights="random").net
    size = max(64, MODELS[name].multiple)
    x = torch.randn(1, 3, size, size)
    before = net(x)
    tidy(net)
    torch.testing.assert_close(net(x), before, rtol=1e-3, atol=1e-4 * float(before.detach().abs().max()))
    for _, bn in fed_by(net):
        assert bn.running_var is not None
        torch.testing.assert_close(bn.running_var, torch.ones_like(bn.running_var), rtol=1e-3, atol=1e-3)


def test_tidying_scales_no_filter_beyond_its_limit() -> None:
    torch.manual_seed(0)
    conv, bn = nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4)
    assert bn.running_var is not None
    bn.running_var.copy_(torch.tensor([1.0, 1e-4, 1e-11, 1e-20]))
    net = nn.Sequential(conv, bn).eval()
    x = torch.randn(1, 3, 8, 8)
    before = net(x)
    tidy(net)
    torch.testing.assert_close(net(x), before)
    assert float(conv.weight.detach().abs().max()) <= LARGEST * 1.0001
