"""What a schedule would cost on one GPU: predicted from published throughput, never measured here.

Training small convolutional networks on a GPU is bound by the values they write, not by their multiplications: over
small networks whose MACs per image differ by a factor of sixty, the published rates agree within a factor of 2.4 when
they are told in convolution outputs per second.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn

SOURCE = (
    "huggingface/pytorch-image-models, results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv (images/s) and "
    "benchmark-infer-amp-nhwc-pt210-cu121-rtx3090.csv (outputs per image)"
)
PUBLISHED = {
    "ghostnet_050": (3670.99, 1.77),
    "ghostnet_100": (2129.82, 3.55),
    "edgenext_xx_small": (2271.04, 3.33),
    "mixnet_s": (1365.54, 6.25),
    "resnet18": (3481.78, 2.48),
    "regnetx_002": (4105.04, 2.16),
    "mobilevit_xxs": (1602.81, 5.74),
    "mobilenetv3_small_050": (11290.99, 0.92),
    "mobilenetv3_small_100": (8035.08, 1.42),
    "lcnet_050": (9286.37, 1.26),
    "mnasnet_small": (5607.09, 2.16),
    "hrnet_w18_small": (2121.96, 5.72),
    "mobilenetv2_100": (2313.1, 6.68),
}
"""Training images/s on one RTX 3090 (AMP, channels last, mostly batch 512), and millions of convolution outputs per
image. `SOURCE` says where both are published."""
COUNTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
CAUTION = 2
"""Our networks have more between two convolutions (PReLU, lone norms, concatenations, upsampling) than the published
ones, and train in small batches: the slow end of the prediction is this much slower than the slowest of them."""


def rates() -> tuple[float, float]:
    """(slow, fast) convolution outputs per second one trains at: the published extremes, the slow one with caution."""
    found = [images * outputs * 1e6 for images, outputs in PUBLISHED.values()]
    return min(found) / CAUTION, max(found)


def hours(images: int, outputs: int) -> tuple[float, float]:
    """(at best, at worst) hours to train on ``images`` with ``outputs`` convolution outputs each, on one RTX 3090."""
    slow, fast = rates()
    return images * outputs / fast / 3600, images * outputs / slow / 3600


@dataclass(frozen=True)
class Work:
    """Counted, of one image forward. The backward pass costs twice as many MACs again."""

    macs: int
    outputs: int
    """Values that convolutions and linear layers write."""


def work(net: nn.Module, height: int, width: int) -> Work:
    """Count what a copy of ``net`` would do for one image of that size, without computing anything."""
    found = [0, 0]

    def count(layer: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        assert isinstance(layer, COUNTED)
        spread = args[0] if isinstance(layer, nn.ConvTranspose2d) else output
        found[0] += spread.numel() * layer.weight[0].numel()
        found[1] += output.numel()

    shapes = copy.deepcopy(net).to("meta").eval()
    for layer in shapes.modules():
        if isinstance(layer, COUNTED):
            layer.register_forward_hook(count)
    shapes(torch.empty(1, 3, height, width, device="meta"))
    return Work(*found)
