"""A file in a page as something that answers, like the runners of `lightseg.export.targets`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightseg.benchmarks.timing.process import Failed

if TYPE_CHECKING:
    from lightseg.benchmarks.browser.child import PageChild

ARRAYS = {
    "Float32Array": np.float32,
    "Uint8Array": np.uint8,
    "Int8Array": np.int8,
    "Int32Array": np.int32,
    "BigInt64Array": np.int64,
}
"""JavaScript's names of element types."""


class PageRunner:
    """The page's file as a `lightseg.export.Runner`, for its answers; its time means nothing."""

    def __init__(self, child: PageChild) -> None:
        self._child, self.details = child, child.details
        self.name = child.details["runtime"]
        self._y: NDArray[Any] = np.empty(0)

    def feed(self, x: NDArray[Any]) -> None:
        self._child.probe = self._child.contract.arranged(x).tobytes()

    def run(self) -> None:
        answer = self._child.page("infer")
        if answer["dtype"] not in ARRAYS:
            raise Failed(f"the output is a {answer['dtype']}, which is not known here")
        values = np.frombuffer(self._child.output, ARRAYS[answer["dtype"]])
        self._y = self._child.contract.restored(values.reshape(answer["shape"]))

    def fetch(self) -> NDArray[Any]:
        return self._y

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        self.feed(x)
        self.run()
        return self.fetch()
