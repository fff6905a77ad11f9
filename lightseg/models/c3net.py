"""C3Net, C3NetV2 and ExtremeC3Net: networks of concentrated-comprehensive convolutions.

Architecture: Park et al., "C3: Concentrated-Comprehensive Convolution and its application to semantic segmentation",
2018, and "ExtremeC3Net: Extreme Lightweight Portrait Segmentation Networks using Advanced C3-modules", 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from lightseg.models.blocks import ConvNormAct, NormAct, conv, depthwise, norm, upsample

INNER_EPS = 1e-5
"""The batch norms inside the C3 blocks keep the framework's default eps."""


def c3_block(cin: int, cout: int, dilation: int) -> nn.Sequential:
    """A dilated depthwise convolution that long 1-D convolutions fill in first, then a 1×1 convolution.

    Dilation 1 needs no filling in: it is a depthwise 3×3 and the 1×1.
    """
    if dilation == 1:
        return nn.Sequential(depthwise(cin, 3), conv(cin, cout, 1))
    k = 2 * dilation - 1
    return nn.Sequential(
        depthwise(cin, (k, 1)),
        norm(cin, INNER_EPS),
        nn.PReLU(cin),
        depthwise(cin, (1, k)),
        norm(cin, INNER_EPS),
        depthwise(cin, 3, dilation=dilation),
        conv(cin, cout, 1),
    )


class C3Module(nn.Module):
    """1×1 (or 3×3 at stride 2), parallel C3 blocks, concatenation, optional residual, batch norm, PReLU.

    The released C3Net and C3NetV2 compute the 1×1 twice and keep one result; once is equal.
    """

    def __init__(
        self, cin: int, cout: int, dilations: Sequence[int], residual: bool = False, down: bool = False
    ) -> None:
        super().__init__()
        n = cout // len(dilations)
        self.reduce = conv(cin, n, 3, stride=2) if down else conv(cin, n, 1)
        widths = [cout - n * (len(dilations) - 1)] + [n] * (len(dilations) - 1)
        self.blocks = nn.ModuleList(c3_block(n, w, d) for w, d in zip(widths, dilations))
        self.out = NormAct(cout)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        y = torch.cat([block(reduced) for block in self.blocks], 1)
        return cast(Tensor, self.out(x + y if self.residual else y))


def c3_level(width: int, dilations: Sequence[int], depth: int) -> nn.Sequential:
    return nn.Sequential(*(C3Module(width, width, dilations, residual=True) for _ in range(depth)))


def separable(cin: int, cout: int) -> nn.Sequential:
    return nn.Sequential(depthwise(cin, 3), conv(cin, cout, 1), norm(cout), nn.PReLU(cout))


def deconv(cin: int, cout: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(cin, cout, 2, 2, bias=False)


class C3Encoder(nn.Module):
    """The encoder of C3Net and C3NetV2; the pooled image is fed in again at 1/2 and 1/4."""

    def __init__(self, classes: int, stem: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, stem, 3, stride=2)
        self.join1 = NormAct(stem + 3)
        self.down2 = C3Module(stem + 3, 64, dilations, down=True)
        self.level2 = c3_level(64, dilations, 2)
        self.join2 = NormAct(131)
        self.down3 = C3Module(131, 128, dilations, down=True)
        self.level3 = c3_level(128, dilations, 8)
        self.join3 = NormAct(256)
        self.head = conv(256, classes, 1)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The logits at 1/8, then the features joined at 1/4, of level 2, joined at 1/2 and of the stem."""
        half = self.pool(x)
        stem = self.stem(x)
        join1 = self.join1(torch.cat([stem, half], 1))
        down2 = self.down2(join1)
        level2 = self.level2(down2)
        join2 = self.join2(torch.cat([level2, down2, self.pool(half)], 1))
        down3 = self.down3(join2)
        head = self.head(self.join3(torch.cat([down3, self.level3(down3)], 1)))
        return head, join2, level2, join1, stem


class C3Net(nn.Module):
    """N×3×H×W → N×20×H×W logits (the last class is training-only); H and W multiples of 8."""

    dilations = (2, 3, 7, 13)

    def __init__(self, classes: int = 20) -> None:
        super().__init__()
        self.encoder = C3Encoder(classes, 16, self.dilations)
        self.bn_coarse = norm(classes)
        self.up3 = deconv(classes, classes)
        self.lateral = conv(131, classes, 1)
        self.merge = nn.Sequential(NormAct(2 * classes), C3Module(2 * classes, classes, self.dilations))
        self.up2 = nn.Sequential(deconv(classes, classes), NormAct(classes))
        self.fuse = ConvNormAct(classes + 19, classes, 3)
        self.out = deconv(classes, classes)

    def forward(self, x: Tensor) -> Tensor:
        head, join2, _, join1, _ = self.encoder(x)
        up3 = self.up3(self.bn_coarse(head))
        up2 = self.up2(self.merge(torch.cat([self.lateral(join2), up3], 1)))
        return cast(Tensor, self.out(self.fuse(torch.cat([up2, join1], 1))))


class C3NetV2(nn.Module):
    """C3Net with wider dilations and a bilinear decoder. N×3×H×W → N×20×H×W logits; multiples of 8."""

    dilations = (2, 4, 8, 16)

    def __init__(self, classes: int = 20) -> None:
        super().__init__()
        self.encoder = C3Encoder(classes, 20, self.dilations)
        self.bn_coarse = norm(classes)
        self.merge2 = separable(classes + 64, classes)
        self.merge1 = separable(classes + 20, classes)
        self.out = conv(classes, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        head, _, level2, _, stem = self.encoder(x)
        merged2 = self.merge2(torch.cat([upsample(self.bn_coarse(head), 2), level2], 1))
        merged1 = self.merge1(torch.cat([upsample(merged2, 2), stem], 1))
        return cast(Tensor, self.out(upsample(merged1, 2)))


EXTREME_LEVEL3 = (2, 4, 8)


class ExtremeC3Net(nn.Module):
    """Portrait ExtremeC3Net. N×3×H×W → N×1×H×W logit of "person"; H and W multiples of 4."""

    def __init__(self, classes: int = 1) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(2)
        self.stem = ConvNormAct(3, 24, 3, stride=2)
        self.join1 = NormAct(27)
        self.down2 = C3Module(27, 48, (1, 2, 3), down=True)
        self.level2 = c3_level(48, (1, 3, 4), 1)
        self.join2 = NormAct(99)
        self.level3_0 = C3Module(99, 56, (1, 3, 5))
        self.level3 = c3_level(56, EXTREME_LEVEL3, 5)
        self.join3 = NormAct(112)
        self.coarse = nn.Sequential(conv(112, 24, 1), norm(24, INNER_EPS))
        self.fine = nn.Sequential(conv(3, 24, 3, stride=2), C3Module(24, 24, EXTREME_LEVEL3, residual=True))
        self.join_out = NormAct(24)
        self.out = conv(24, classes, 1)

    def encode(self, x: Tensor) -> Tensor:
        """The 112 features at 1/4 that stage one of the published recipe classifies with one 1×1 convolution."""
        half = self.pool(x)
        down2 = self.down2(self.join1(torch.cat([self.stem(x), half], 1)))
        join2 = self.join2(torch.cat([self.level2(down2), down2, self.pool(half)], 1))
        level3_0 = self.level3_0(join2)
        return cast(Tensor, self.join3(torch.cat([level3_0, self.level3(level3_0)], 1)))

    def forward(self, x: Tensor) -> Tensor:
        joined = self.join_out(upsample(self.coarse(self.encode(x)), 2) + self.fine(x))
        return cast(Tensor, self.out(upsample(joined, 2)))


def _module(source: str, ours: str) -> tuple[tuple[str, str], ...]:
    """Name rules of one C3 module."""
    return (
        (rf"^{source}\.c1\.conv\.", rf"{ours}.reduce."),
        *((rf"^{source}\.d{i}\.conv\.", rf"{ours}.blocks.{i - 1}.") for i in range(1, 5)),
        (rf"^{source}\.bn\.bn\.", rf"{ours}.out.bn."),
        (rf"^{source}\.bn\.act\.", rf"{ours}.out.act."),
        (rf"^{source}\.(?P<part>bn|act)\.", rf"{ours}.out.\g<part>."),
    )


def _encoder(prefix: str, level3_0: str) -> tuple[tuple[str, str], ...]:
    return (
        (r"^encoder\.level1\.", f"{prefix}stem."),
        (r"^encoder\.b(\d)\.", rf"{prefix}join\g<1>."),
        *_module(r"encoder\.level2_0", f"{prefix}down2"),
        *_module(r"encoder\.level3_0", f"{prefix}{level3_0}"),
        *_module(r"encoder\.(?P<at>level\d\.\d)", rf"{prefix}\g<at>"),
        (r"^encoder\.classifier\.conv\.", f"{prefix}head."),
    )


UPSTREAM_C3NET = (
    *_encoder("encoder.", "down3"),
    (r"^br\.", "bn_coarse."),
    (r"^up_l3\.0\.", "up3."),
    (r"^level3_C\.conv\.", "lateral."),
    (r"^combine_l2_l3\.0\.", "merge.0."),
    *_module(r"combine_l2_l3\.1", "merge.1"),
    (r"^up_l2\.", "up2."),
    (r"^conv\.", "fuse."),
    (r"^classifier\.", "out."),
)
UPSTREAM_C3NETV2 = (
    *_encoder("encoder.", "down3"),
    (r"^bn\.", "bn_coarse."),
    (r"^conv_l(\d)\.conv\.", r"merge\g<1>."),
    (r"^conv_l(\d)\.bn\.", r"merge\g<1>.2."),
    (r"^conv_l(\d)\.act\.", r"merge\g<1>.3."),
    (r"^classifier\.1\.conv\.", "out."),
)
UPSTREAM_EXTREMEC3NET = (
    *_encoder("", "level3_0"),
    (r"^upsample\.", "coarse."),
    (r"^Fine\.0\.conv\.", "fine.0."),
    *_module(r"Fine\.1", "fine.1"),
    (r"^classifier\.0\.", "join_out."),
    (r"^classifier\.2\.", "out."),
)
