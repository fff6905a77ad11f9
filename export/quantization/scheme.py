"""What a target's int8 kernels take: a property of the target, stated in its file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Price:
    """What int8 saves and costs, in instructions, as measured on the target's kernels one operation at a time."""

    dense: float
    """Saved per multiply-accumulate of a convolution that is not depthwise."""
    depthwise: float
    """Saved per multiply-accumulate of a depthwise one with a multiple of ``lanes`` channels; with others nothing."""
    lanes: int
    quantise: float
    """Per element that turns from float to int8."""
    dequantise: float
    """Per element that turns back."""


@dataclass(frozen=True)
class Products:
    """How exactly int8 kernels return their products as floats: the largest error, as a share of the product and the
    bias together."""

    dense: float
    depthwise: float


@dataclass(frozen=True)
class Scheme:
    """Weights are always symmetric, one scale per output channel, −127…127; biases int32 on the product's grid."""

    symmetric: bool = False
    """Activations have zero point 0, and a scale that takes the largest to 127; otherwise any zero point."""
    lowest: int = -128
    """What the kernels cut activations off at, below; above it is 127 everywhere."""
    outputs: bool = False
    """What an int8 convolution returns is quantised too: kernels that return int8 and nothing else."""

    price: Price | None = None
    """Convolutions that it says are cheaper in float stay there; None: all are worth it."""

    products: Products | None = None
    """What is allowed where the runtime shows what its int8 convolutions return, as it is; None where to show it would
    change what is computed."""

    @property
    def highest(self) -> int:
        return 127
