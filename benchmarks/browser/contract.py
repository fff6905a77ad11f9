"""What a page must know of a file to feed it and to read its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightseg.errors import Unsupported
from lightseg.spec import RAW

ELEMENTS = {"float32": np.float32, "uint8": np.uint8}


@dataclass(frozen=True)
class Contract:
    """How a file takes and gives numbers: layouts of four letters and an element type."""

    takes: str
    dtype: str
    gives: str

    @classmethod
    def of(cls, layout: dict[str, str]) -> Contract:
        """Errors: `Unsupported` for what the page cannot feed."""
        takes, dtype, *_ = layout["input"].split()
        gives = layout["output"].split()[0]
        if {takes, gives} - {"NCHW", "NHWC"} or dtype not in ELEMENTS:
            raise Unsupported(f"the page cannot feed {layout['input']}; export with float32 or uint8 images")
        return cls(takes, dtype, gives)

    def to_page(self, shape: Sequence[int], preprocess: dict[str, Any] | None, classes: int) -> dict[str, Any]:
        """What the page's ``pixels.mjs`` has to know to go from a photograph to a mask."""
        return {
            "size": list(shape[2:]),
            "takes": self.takes,
            "dtype": self.dtype,
            "gives": self.gives,
            "preprocess": preprocess or RAW.to_dict(),
            "classes": classes,
        }

    def arranged(self, x: NDArray[Any]) -> NDArray[Any]:
        """N×3×H×W as the file takes it."""
        ordered = x.transpose(0, 2, 3, 1) if self.takes == "NHWC" else x
        return np.ascontiguousarray(ordered.astype(ELEMENTS[self.dtype], copy=False))

    def restored(self, y: NDArray[Any]) -> NDArray[Any]:
        """What the file gave, as N×C×H×W."""
        return y.transpose(0, 3, 1, 2) if self.gives == "NHWC" else y
