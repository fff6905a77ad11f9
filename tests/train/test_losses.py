from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torchmetrics.functional as tmf
from torch import Tensor

from lightseg.train import losses
from lightseg.train.recipe import Recipe


def logits_and_target(classes: int = 2, void: bool = True) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(3)
    logits = torch.randn(2, classes, 9, 11, generator=rng)
    target = torch.randint(0, max(2, classes), (2, 9, 11), generator=rng)
    if void:
        target[0, :3] = 255
    return logits, target


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_is_torch_s(classes: int, weighted: bool) -> None:
    logits, target = logits_and_target(classes)
    weight = torch.arange(1.0, classes + 1) if weighted else None
    expected = F.cross_entropy(logits, target, weight, ignore_index=255)
    torch.testing.assert_close(losses.cross_entropy(logits, target, weight), expected)


@pytest.mark.parametrize("channels", [1, 2])
def test_the_margin_s_sigmoid_is_the_softmax(channels: int) -> None:
    logits, _ = logits_and_target(channels)
    expected = torch.softmax(losses.as_two_classes(logits), 1)[:, 1]
    torch.testing.assert_close(torch.sigmoid(losses.margin(logits)), expected)


def test_one_logit_is_binary_cross_entropy() -> None:
    logits, target = logits_and_target(1, void=False)
    expected = F.binary_cross_entropy_with_logits(logits[:, 0], target.float())
    torch.testing.assert_close(losses.cross_entropy(logits, target), expected)


def test_all_void_is_zero_and_not_nan() -> None:
    logits, target = logits_and_target()
    assert float(losses.cross_entropy(logits, torch.full_like(target, 255))) == 0


@pytest.mark.parametrize("width", [3, 5, 15])
def test_the_edge_band_is_dilation_minus_erosion(width: int) -> None:
    target = (torch.rand(2, 40, 33, generator=torch.Generator().manual_seed(0)) > 0.995).long()
    values = target.unsqueeze(1).float()
    high = F.max_pool2d(values, width, 1, width // 2)
    low = -F.max_pool2d(-values, width, 1, width // 2)
    band = losses.edge_band(target, width)
    assert torch.equal(band, (high != low).squeeze(1))
    assert 0 < int(band.sum()) < band.numel()
    outside = losses.edge_target(target, width)[~band]
    assert bool((outside == 255).all())


def test_soft_iou_of_a_certain_prediction_is_one_minus_the_iou() -> None:
    logits, target = logits_and_target(void=False)
    predicted = logits.argmax(1)
    hard = F.one_hot(predicted, 2).permute(0, 3, 1, 2).float() * 200
    each = [tmf.jaccard_index(p, t, task="binary") for p, t in zip(predicted, target)]
    assert float(losses.soft_iou(hard, target)) == pytest.approx(1 - float(torch.stack(each).mean()), abs=0.02)


def test_soft_iou_ignores_void() -> None:
    logits, target = logits_and_target()
    changed = logits.clone()
    changed[0, :, :3] = 50
    torch.testing.assert_close(losses.soft_iou(changed, target), losses.soft_iou(logits, target))


def brute_lovasz(errors: list[float], truth: list[bool]) -> float:
    """The definition: for errors in falling order, the increase of the Jaccard loss of the set of mistakes so far."""
    order = sorted(range(len(errors)), key=lambda i: -errors[i])
    total, loss, before = sum(truth), 0.0, 0.0
    wrong: set[int] = set()
    for i in order:
        wrong.add(i)
        missed = sum(truth[j] for j in wrong)
        added = len(wrong) - missed
        now = 1 - (total - missed) / (total + added)
        loss += errors[i] * (now - before)
        before = now
    return loss


def test_lovasz_hinge_is_its_definition() -> None:
    logits, target = logits_and_target(1)
    expected = []
    for score, truth in zip(logits[:, 0], target):
        known = truth != 255
        sign = (truth[known] == 1).float() * 2 - 1
        errors = F.relu(1 - score[known] * sign).tolist()
        expected.append(brute_lovasz(errors, (sign > 0).tolist()))
    assert float(losses.lovasz_hinge(logits, target)) == pytest.approx(sum(expected) / 2, rel=1e-5)


def test_lovasz_softmax_is_its_definition() -> None:
    logits, target = logits_and_target(3)
    known = (target != 255).flatten()
    p = torch.softmax(logits, 1).transpose(0, 1).flatten(1)[:, known]
    t = target.flatten()[known]
    each = [brute_lovasz((p[c] - (t == c).float()).abs().tolist(), (t == c).tolist()) for c in range(3)]
    assert float(losses.lovasz_softmax(logits, target)) == pytest.approx(sum(each) / 3, rel=1e-5)


@pytest.mark.parametrize("loss", [losses.lovasz_hinge, losses.lovasz_softmax, losses.soft_iou, losses.cross_entropy])
def test_a_perfect_prediction_costs_next_to_nothing(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    target = torch.zeros(1, 8, 8, dtype=torch.long)
    target[:, 2:6, 3:7] = 1
    good = F.one_hot(target, 2).permute(0, 3, 1, 2).float() * 60 - 30
    assert float(loss(good, target)) < 1e-6
    assert float(loss(-good, target)) > 0.5


def test_class_weights_follow_the_formula() -> None:
    weights = losses.class_weights(torch.tensor([75, 25, 0]))
    assert weights.tolist() == pytest.approx([1 / math.log(1.85), 1 / math.log(1.35), 0])


def test_the_auxiliary_loss_sees_the_reduced_target() -> None:
    target = torch.arange(16).view(1, 4, 4) % 3
    logits = torch.randn(1, 3, 2, 2)
    torch.testing.assert_close(losses.auxiliary(logits, target), F.cross_entropy(logits, target[:, ::2, ::2]))


def test_a_recipe_s_loss_is_the_weighted_sum() -> None:
    logits, target = logits_and_target()
    recipe = Recipe("sinet", edge_weight=0.5, iou_weight=2.0, aux_weight=0.25)
    band = losses.edge_target(target, 3)
    side = torch.randn(2, 2, 3, 3)
    expected = (
        losses.cross_entropy(logits, target)
        + 0.5 * losses.cross_entropy(logits, band)
        + 2 * losses.soft_iou(logits, target)
        + 0.25 * losses.auxiliary(side, target)
    )
    torch.testing.assert_close(losses.of_recipe(recipe, 3)((logits, side), target), expected)
