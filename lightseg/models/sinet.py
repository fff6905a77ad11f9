"""SINet for portraits and for street scenes.

Architecture: Park et al., "SINet: Extreme Lightweight Portrait Segmentation Networks with Spatial Squeeze Module and
Information Blocking Decoder", WACV 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from lightseg.models.blocks import (
    ConvNormAct,
    NormAct,
    SqueezeGate,
    blocking_gate,
    channel_shuffle,
    conv,
    depthwise,
    norm,
    upsample,
)

Branches = Sequence[tuple[int, int]]
"""(kernel, average-pooling factor) of the two branches of a module."""


class SqueezeDown(nn.Module):
    """Depthwise 3×3 at stride 2, gate, 1×1 convolution, batch norm, PReLU."""

    def __init__(self, cin: int, cout: int, reduction: int) -> None:
        super().__init__()
        self.depthwise = depthwise(cin, 3, stride=2)
        self.gate = SqueezeGate(cin, reduction)
        self.pointwise = conv(cin, cout, 1)
        self.bn = norm(cout)
        self.act = nn.PReLU(cout)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.act(self.bn(self.pointwise(self.gate(self.depthwise(x))))))


class SquareBranch(nn.Module):
    """Depthwise k×k on a squeezed map, PReLU, 1×1, back to size, batch norm."""

    def __init__(self, kernel: int, pool: int, cin: int, cout: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(pool) if pool > 1 else nn.Identity()
        self.spatial = depthwise(cin, kernel)
        self.bn1 = norm(cin)
        self.act = nn.PReLU(cin)
        self.pointwise = conv(cin, cout, 1)
        self.bn2 = norm(cout)
        self.factor = pool

    def spatial_mix(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.bn1(self.spatial(x)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.pointwise(self.act(self.spatial_mix(self.pool(x))))
        return cast(Tensor, self.bn2(upsample(x, self.factor) if self.factor > 1 else x))


class CrossBranch(SquareBranch):
    """The same with k×1 plus 1×k, each with its own batch norm, in place of k×k."""

    def __init__(self, kernel: int, pool: int, cin: int, cout: int) -> None:
        super().__init__(kernel, pool, cin, cout)
        self.spatial = depthwise(cin, (kernel, 1))
        self.horizontal = depthwise(cin, (1, kernel))
        self.bn_horizontal = norm(cin)

    def spatial_mix(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.bn1(self.spatial(x)) + self.bn_horizontal(self.horizontal(x)))


class SqueezeModule(nn.Module):
    """Grouped 1×1, channel shuffle, two branches, concatenation, optional residual, batch norm, PReLU."""

    def __init__(self, cin: int, cout: int, branches: Branches, residual: bool, cross: bool) -> None:
        super().__init__()
        half = cout // 2
        self.reduce = conv(cin, half, 1, groups=2)
        first, second = (self._branch(k, a, half, n, cross) for (k, a), n in zip(branches, (cout - half, half)))
        self.branch1, self.branch2 = first, second
        self.out = NormAct(cout)
        self.residual = residual

    @staticmethod
    def _branch(kernel: int, pool: int, cin: int, cout: int, cross: bool) -> SquareBranch:
        """Pooling factor 0 stands for "square kernel, no pooling" in a level of cross branches."""
        return CrossBranch(kernel, pool, cin, cout) if cross and pool else SquareBranch(kernel, pool, cin, cout)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = channel_shuffle(self.reduce(x), 2)
        y = torch.cat([self.branch1(squeezed), self.branch2(squeezed)], 1)
        return cast(Tensor, self.out(x + y if self.residual else y))


def level(cin: int, cout: int, config: Sequence[Branches], cross: bool = False) -> nn.Sequential:
    """Modules in a row; the first changes the width and is not residual, the rest are."""
    modules = [SqueezeModule(cin if i == 0 else cout, cout, b, i > 0, cross) for i, b in enumerate(config)]
    return nn.Sequential(*modules)


LEVEL2 = [[(3, 1), (5, 1)], [(3, 1), (3, 1)]]
LEVEL3 = [
    [(3, 1), (5, 1)], [(3, 1), (3, 1)], [(5, 1), (3, 2)], [(5, 2), (3, 4)],
    [(3, 1), (3, 1)], [(5, 1), (5, 1)], [(3, 2), (3, 4)], [(3, 1), (5, 2)],
]  # fmt: skip


class SINet(nn.Module):
    """Portrait SINet. N×3×H×W → N×2×H×W logits (0 background, 1 person); H and W multiples of 32."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, 12, 3, stride=2)
        self.down2 = SqueezeDown(12, 16, reduction=1)
        self.level2 = level(16, 48, LEVEL2)
        self.join2 = NormAct(64)
        self.down3 = SqueezeDown(64, 48, reduction=2)
        self.level3 = level(48, 96, LEVEL3)
        self.join3 = NormAct(144)
        self.head = conv(144, classes, 1)
        self.bn_coarse = norm(classes)
        self.lateral = ConvNormAct(48, classes, 1)
        self.bn_fine = norm(classes)
        self.out = conv(classes, classes, 3)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The coarse logits at 1/8 (what stage one of the published recipe trains) and the features at 1/4."""
        down2 = self.down2(self.stem(x))
        level2 = self.level2(down2)
        down3 = self.down3(self.join2(torch.cat([down2, level2], 1)))
        return self.head(self.join3(torch.cat([down3, self.level3(down3)], 1))), level2

    def forward(self, x: Tensor) -> Tensor:
        coarse, level2 = self.encode(x)
        coarse = self.bn_coarse(upsample(coarse, 2))
        fine = self.lateral(level2) * blocking_gate(coarse) + coarse
        return cast(Tensor, self.out(upsample(self.bn_fine(upsample(fine, 2)), 2)))


CITY_LEVEL3 = [[(3, 1), (5, 1)], [(3, 0), (3, 1)], [(3, 0), (3, 1)]]
CITY_LEVEL4_1 = [[(3, 1), (5, 1)], [(3, 0), (3, 1)], [(5, 1), (5, 4)], [(3, 2), (5, 8)], [(3, 1), (5, 1)]]
CITY_LEVEL4_2 = [[(3, 1), (5, 1)], [(3, 0), (3, 1)], [(5, 1), (5, 8)], [(3, 2), (5, 4)], [(3, 0), (5, 2)]]


class SINetCityscapes(nn.Module):
    """Street-scene SINet. N×3×H×W → N×19×H/2×W/2 logits; H and W multiples of 128."""

    def __init__(self, classes: int = 19) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, 16, 3, stride=2)
        self.down2 = SqueezeDown(16, classes, reduction=1)
        self.down3 = SqueezeDown(classes, 24, reduction=1)
        self.level3 = level(24, 60, CITY_LEVEL3, cross=True)
        self.join3 = NormAct(84)
        self.down4 = SqueezeDown(84, 60, reduction=2)
        self.level4 = nn.Sequential(
            *level(60, 84, CITY_LEVEL4_1, cross=True), *level(84, 108, CITY_LEVEL4_2, cross=True)
        )
        self.join4 = NormAct(168)
        self.head = conv(168, classes, 1)
        self.bn_coarse = norm(classes)
        self.lateral = ConvNormAct(60, classes, 1)
        self.bn_fine = norm(classes)
        self.out = nn.ConvTranspose2d(classes, classes, 2, 2, bias=False)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The auxiliary logits at 1/16, and the features at 1/8 and 1/4."""
        down2 = self.down2(self.stem(x))
        down3 = self.down3(down2)
        level3 = self.level3(down3)
        down4 = self.down4(self.join3(torch.cat([down3, level3], 1)))
        return self.head(self.join4(torch.cat([down4, self.level4(down4)], 1))), level3, down2

    def decode(self, coarse: Tensor, level3: Tensor, down2: Tensor) -> Tensor:
        coarse = self.bn_coarse(upsample(coarse, 2, align_corners=False))
        middle = self.lateral(level3) * blocking_gate(coarse) + coarse
        middle = self.bn_fine(upsample(middle, 2, align_corners=False))
        return cast(Tensor, self.out(down2 * blocking_gate(middle) + middle))

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(*self.encode(x))


_BLOCKS = (
    (r"^encoder\.level1\.", "stem."),
    (r"^encoder\.level(\d)_0\.conv\.0\.", r"down\1.depthwise."),
    (r"^encoder\.level(\d)_0\.conv\.1\.dense\.0\.", r"down\1.gate.squeeze."),
    (r"^encoder\.level(\d)_0\.conv\.1\.dense\.1\.", r"down\1.gate.act1."),
    (r"^encoder\.level(\d)_0\.conv\.1\.dense\.2\.", r"down\1.gate.excite."),
    (r"^encoder\.level(\d)_0\.conv\.1\.dense\.3\.", r"down\1.gate.act2."),
    (r"^encoder\.level(\d)_0\.conv\.2\.", r"down\1.pointwise."),
    (r"^encoder\.level(\d)_0\.", r"down\1."),
    (r"^encoder\.BR(\d)\.", r"join\1."),
    (r"^encoder\.classifier\.conv\.", "head."),
    (r"^encoder\.(level\d\.\d+)\.c1\.conv\.", r"\1.reduce."),
    (r"^encoder\.(level\d\.\d+)\.BR\.", r"\1.out."),
    (r"^encoder\.(level\d\.\d+)\.d(\d)\.", r"\1.branch\2."),
    (r"(branch\d)\.conv\.0\.", r"\1.spatial."),
    (r"(branch\d)\.conv\.1\.", r"\1.bn1."),
    (r"(branch\d)\.vertical\.", r"\1.spatial."),
    (r"(branch\d)\.B_v\.", r"\1.bn1."),
    (r"(branch\d)\.B_h\.", r"\1.bn_horizontal."),
    (r"(branch\d)\.act_conv1x1\.0\.", r"\1.act."),
    (r"(branch\d)\.act_conv1x1\.1\.", r"\1.pointwise."),
    (r"(branch\d)\.bn\.", r"\1.bn2."),
    (r"^level\d_C\.", "lateral."),
)
UPSTREAM_SINET = (
    *_BLOCKS,
    (r"^bn_3\.", "bn_coarse."),
    (r"^bn_2\.", "bn_fine."),
    (r"^classifier\.1\.", "out."),
)
UPSTREAM_SINET_CITYSCAPES = (
    *_BLOCKS,
    (r"^bn_4\.", "bn_coarse."),
    (r"^bn_3\.", "bn_fine."),
    (r"^classifier\.", "out."),
)
