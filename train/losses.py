"""Losses on logits and class maps. Logits are N×C×H×W, targets N×H×W class numbers (int64), ``ignore`` marks void."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lightseg.train.recipe import Recipe


def as_two_classes(logits: Tensor) -> Tensor:
    """A one-channel logit of "person" as the two-class logits (0, x), which give the same probabilities."""
    return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits


def margin(logits: Tensor) -> Tensor:
    """N×H×W: by how much class 1 of two leads; its sigmoid is the probability of class 1.

    One channel is the lead itself. On the CPU this and a softplus take less time than a softmax over two channels. It
    is a sum over signs and no difference of slices, whose gradients would be written into zeros twice.
    """
    if logits.shape[1] == 1:
        return logits[:, 0]
    return (logits * logits.new_tensor([-1.0, 1.0]).view(1, 2, 1, 1)).sum(1)


def cross_entropy(logits: Tensor, target: Tensor, weight: Tensor | None = None, ignore: int = 255) -> Tensor:
    """Mean over the pixels that are not void (weighted mean with ``weight``); 0 where every pixel is void."""
    known = target != ignore
    share = known.to(logits.dtype)
    if logits.shape[1] <= 2 and weight is None:
        score = margin(logits)
        losses = (F.softplus(score) - score * (target == 1).to(score.dtype)) * share
        return losses.sum() / share.sum().clamp_min(1e-6)
    losses = F.cross_entropy(as_two_classes(logits), target, weight, ignore_index=ignore, reduction="none")
    if weight is not None:
        share = share * weight[torch.where(known, target, torch.zeros_like(target))]
    return losses.sum() / share.sum().clamp_min(1e-6)


def edge_band(target: Tensor, width: int) -> Tensor:
    """True where a square of ``width`` pixels around the pixel sees more than one class (dilation − erosion)."""
    values = target.to(torch.uint8)
    return _extreme(values, width, torch.maximum, 0) != _extreme(values, width, torch.minimum, 255)


def _extreme(values: Tensor, width: int, pick: Callable[[Tensor, Tensor], Tensor], outside: int) -> Tensor:
    """The largest or smallest value in a square, by doubling the reach: 2·log₂(width) passes where pooling takes k²."""
    before = width // 2
    for dim in (-1, -2):
        sides = (before, width - 1 - before)
        values = F.pad(values, sides if dim == -1 else (0, 0, *sides), value=outside)
        reach = 1
        while reach < width:
            step, size = min(reach, width - reach), values.shape[dim]
            values = pick(values.narrow(dim, 0, size - step), values.narrow(dim, step, size - step))
            reach += step
    return values


def edge_target(target: Tensor, width: int, ignore: int = 255) -> Tensor:
    """The target with everything outside the edge band made void."""
    return torch.where(edge_band(target, width), target, torch.full_like(target, ignore))


def soft_iou(logits: Tensor, target: Tensor, ignore: int = 255) -> Tensor:
    """1 − Σpy / Σ(p + y − py) of class 1 in each image, averaged over the images; void pixels do not count."""
    person = torch.sigmoid(margin(logits)) if logits.shape[1] <= 2 else torch.softmax(logits, 1)[:, 1]
    known = (target != ignore).to(person.dtype)
    person, truth = person * known, (target == 1).to(person.dtype)
    both = (person * truth).sum((1, 2))
    either = (person + truth).sum((1, 2)) - both
    return (1 - (both + 1) / (either + 1)).mean()


def disagreement(logits: Tensor, taught: Tensor, target: Tensor, ignore: int = 255) -> Tensor:
    """Cross-entropy of two-class ``logits`` against the teacher's probability of class 1 (N×H×W), void left out.

    Below it stays the teacher's own entropy; what can be learned is the distance from that.
    """
    score = margin(logits)
    known = (target != ignore).to(score.dtype)
    return ((F.softplus(score) - taught * score) * known).sum() / known.sum().clamp_min(1)


def lovasz_hinge(logits: Tensor, target: Tensor, ignore: int = 255) -> Tensor:
    """The Lovász extension of 1 − IoU of class 1 at hinge errors, per image, averaged (Berman et al., CVPR 2018).

    Takes one-channel logits of "person", or two-class logits, whose difference is one.
    """
    values = []
    for score, truth in zip(margin(logits), target):
        known = truth != ignore
        sign = (truth[known] == 1).to(score.dtype) * 2 - 1
        values.append(_lovasz(F.relu(1 - score[known] * sign), sign > 0))
    return torch.stack(values).mean()


def lovasz_softmax(logits: Tensor, target: Tensor, ignore: int = 255) -> Tensor:
    """The Lovász extension of 1 − IoU at softmax errors, over the batch, mean of the classes that occur in it."""
    probabilities = torch.softmax(as_two_classes(logits), 1).transpose(0, 1).flatten(1)
    flat = target.flatten()
    known = flat != ignore
    probabilities, flat = probabilities[:, known], flat[known]
    values = [
        _lovasz((flat == c).to(p.dtype).sub(p).abs(), flat == c)
        for c, p in enumerate(probabilities)
        if (flat == c).any()
    ]
    return torch.stack(values).mean() if values else logits.sum() * 0


def _lovasz(errors: Tensor, truth: Tensor) -> Tensor:
    """Sum of the sorted errors, each weighted by what one more mistake at its rank costs in IoU."""
    errors, order = torch.sort(errors, descending=True)
    positive = truth[order].to(errors.dtype)
    total = positive.sum()
    intersection = total - positive.cumsum(0)
    union = total + (1 - positive).cumsum(0)
    cost = 1 - intersection / union.clamp_min(1)
    steps = torch.cat([cost[:1], cost.diff()])
    return (errors * steps).sum()


def auxiliary(logits: Tensor, target: Tensor, weight: Tensor | None = None, ignore: int = 255) -> Tensor:
    """Cross-entropy of a side head at its own resolution: the target is reduced to it by nearest neighbour."""
    return cross_entropy(logits, resize_target(target, logits), weight, ignore)


def resize_target(target: Tensor, logits: Tensor) -> Tensor:
    """The class map at the resolution of ``logits``, by nearest neighbour."""
    if target.shape[1:] == logits.shape[2:]:
        return target
    small = F.interpolate(target.unsqueeze(1).float(), size=logits.shape[2:], mode="nearest")
    return small.squeeze(1).to(target.dtype)


def class_weights(counts: Tensor) -> Tensor:
    """1 / ln(1.10 + share) for the pixel counts of each class; classes that never occur weigh 0."""
    share = counts.double() / counts.sum().clamp_min(1)
    return torch.where(counts > 0, 1 / torch.log(1.10 + share), torch.zeros_like(share)).float()


Loss = Callable[[Tensor | tuple[Tensor, Tensor], Tensor], Tensor]
"""Logits (and those of an auxiliary head), what `Samples` gives beside an image → a scalar."""


def of_recipe(recipe: Recipe, edge_width: int, weight: Tensor | None = None) -> Loss:
    """The sum of losses a recipe asks for.

    main + edge_weight · (the same inside the edge band) + iou_weight · soft IoU + teacher_weight · disagreement with
    the teacher + aux_weight · auxiliary head.
    """

    def main(logits: Tensor, target: Tensor) -> Tensor:
        if recipe.loss == "cross_entropy":
            return cross_entropy(logits, target, weight)
        return (lovasz_hinge if logits.shape[1] <= 2 else lovasz_softmax)(logits, target)

    def loss(output: Tensor | tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
        logits, side = output if isinstance(output, tuple) else (output, None)
        logits = logits.float()
        if logits.shape[1] == 2 and weight is None:
            logits = margin(logits).unsqueeze(1)  # once, and not in every term
        full, taught = (labels[..., 0], labels[..., 1]) if labels.ndim == 4 else (labels, None)
        target = resize_target(full, logits)
        total = main(logits, target)
        if recipe.edge_weight:
            total = total + recipe.edge_weight * main(logits, edge_target(target, edge_width))
        if recipe.iou_weight:
            total = total + recipe.iou_weight * soft_iou(logits, target)
        if taught is not None:
            wanted = resize_target(taught, logits).to(logits.dtype) / 255
            total = total + recipe.teacher_weight * disagreement(logits, wanted, target)
        if side is not None:
            total = total + recipe.aux_weight * auxiliary(side.float(), full, weight)
        return total

    return loss
