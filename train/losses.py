"""Losses on logits and class maps. Logits are N×C×H×W, targets N×H×W class numbers (int64), ``ignore`` marks void."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def as_two_classes(logits: Tensor) -> Tensor:
    """A one-channel logit of "person" as the two-class logits (0, x), which give the same probabilities."""
    return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits


def cross_entropy(logits: Tensor, target: Tensor, weight: Tensor | None = None, ignore: int = 255) -> Tensor:
    """Mean over the pixels that are not void (weighted mean with ``weight``); 0 where every pixel is void."""
    losses = F.cross_entropy(as_two_classes(logits), target, weight, ignore_index=ignore, reduction="none")
    known = target != ignore
    share = known.to(losses.dtype)
    if weight is not None:
        share = share * weight[torch.where(known, target, torch.zeros_like(target))]
    return losses.sum() / share.sum().clamp_min(1e-6)


def edge_band(target: Tensor, width: int) -> Tensor:
    """True where a square of ``width`` pixels around the pixel sees more than one class (dilation − erosion)."""
    values = target.unsqueeze(1).float()
    high = F.max_pool2d(values, width, stride=1, padding=width // 2)
    low = -F.max_pool2d(-values, width, stride=1, padding=width // 2)
    return (high != low).squeeze(1)


def edge_target(target: Tensor, width: int, ignore: int = 255) -> Tensor:
    """The target with everything outside the edge band made void."""
    return torch.where(edge_band(target, width), target, torch.full_like(target, ignore))


def soft_iou(logits: Tensor, target: Tensor, ignore: int = 255) -> Tensor:
    """1 − Σpy / Σ(p + y − py) of class 1 in each image, averaged over the images; void pixels do not count."""
    person = torch.softmax(as_two_classes(logits), 1)[:, 1]
    known = (target != ignore).to(person.dtype)
    person, truth = person * known, (target == 1).to(person.dtype)
    both = (person * truth).sum((1, 2))
    either = (person + truth).sum((1, 2)) - both
    return (1 - (both + 1) / (either + 1)).mean()
