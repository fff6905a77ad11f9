"""Numbers as float16, or a refusal that names the one that does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightseg.errors import Unsupported

LARGEST = float(np.finfo(np.float16).max)


def as_half(name: str, values: Tensor | NDArray[Any]) -> NDArray[np.float16]:
    """``values`` rounded to float16. Errors: `Unsupported` where one is beyond 65504."""
    wide = np.asarray(values, np.float64)
    if wide.size and np.abs(wide).max() > LARGEST:
        raise Unsupported(
            f"{name} has a weight of {np.abs(wide).max():.6g}, beyond the {LARGEST:g} that float16 holds; "
            "export it with --precision fp32"
        )
    return np.ascontiguousarray(wide, np.float16)
