"""What a target's int8 kernels take: a property of the target, stated in its file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scheme:
    """Weights are always symmetric, one scale per output channel, −127…127; biases int32 on the product's grid."""

    symmetric: bool = False
    """Activations have zero point 0 and lie in −127…127; otherwise −128…127 with any zero point."""
    outputs: bool = False
    """What an int8 convolution returns is quantised too: kernels that return int8 and nothing else."""

    @property
    def lowest(self) -> int:
        return -127 if self.symmetric else -128

    @property
    def highest(self) -> int:
        return 127
