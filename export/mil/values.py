"""The constants of a program, as arrays; the types of its values."""

from __future__ import annotations

import math
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightseg.errors import BadInput, Unsupported
from lightseg.export.mil.package import Package
from lightseg.export.mil.weights import WeightFile

Shape = tuple[int, ...]
Constant = NDArray[Any] | str
"""An array (of rank 0 for a number) or a string."""

BOOL, STRING, FLOAT16, FLOAT32, INT8, INT32 = 1, 2, 10, 11, 21, 23
ELEMENTS: dict[int, Any] = {
    BOOL: np.bool_, FLOAT16: np.float16, FLOAT32: np.float32, 12: np.float64, INT8: np.int8, 22: np.int16,
    INT32: np.int32, 24: np.int64, 31: np.uint8, 32: np.uint16, 33: np.uint32,
}  # fmt: skip
"""Element types by their number in the program."""


def tensor_type(named: Any) -> tuple[int, Shape]:
    """Element type and shape of a value; shapes that stay open are `Unsupported`."""
    kind = named.type.WhichOneof("type")
    if kind != "tensorType":
        raise Unsupported(f"values of {kind} are outside what the reference interpreter reads")
    tensor = named.type.tensorType
    if any(d.WhichOneof("dimension") != "constant" for d in tensor.dimensions):
        raise Unsupported("an open shape is outside what the reference interpreter reads")
    return tensor.dataType, tuple(d.constant.size for d in tensor.dimensions)


class Constants:
    """Decodes values of one package; a weight file is opened once."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._files: dict[str, WeightFile] = {}

    def decode(self, value: Any) -> Constant:
        """Errors: `BadInput` where the stored values do not fill the declared type."""
        element, shape = tensor_type(value)
        if value.WhichOneof("value") == "blobFileValue":
            return self._filled(self._from_file(value.blobFileValue), element, shape)
        tensor = value.immediateValue.tensor
        kind = tensor.WhichOneof("value")
        if kind == "strings":
            text: str = tensor.strings.values[0]
            return text
        if kind == "bytes":
            return self._filled(np.frombuffer(tensor.bytes.values, _dtype(element)), element, shape)
        if kind is None:
            return self._filled(np.empty(0, _dtype(element)), element, shape)
        return self._filled(np.asarray(getattr(tensor, kind).values, _dtype(element)), element, shape)

    def _from_file(self, reference: Any) -> NDArray[Any]:
        if self._package.weights is None:
            raise BadInput(f"{self._package.folder} refers to a weight file and lists none; export it again")
        name = PurePosixPath(reference.fileName).name
        if name not in self._files:
            self._files[name] = WeightFile(self._package.weights / name)
        return self._files[name].read(reference.offset)

    def _filled(self, values: NDArray[Any], element: int, shape: Shape) -> NDArray[Any]:
        if values.dtype != _dtype(element) or values.size != math.prod(shape):
            raise BadInput(
                f"{self._package.folder}: a constant has {values.size} values of {values.dtype} "
                f"where the program declares {list(shape)} of {np.dtype(_dtype(element))}; export it again"
            )
        return values.reshape(shape)


def dequantised(name: str, given: dict[str, Constant]) -> NDArray[Any]:
    """scale · (quantized_data − zero_point) along ``axis``, in the type of the scale."""
    if set(given) != {"quantized_data", "zero_point", "scale", "axis"}:
        raise Unsupported(f"{name}: parameters {sorted(given)} are outside what the reference interpreter reads")
    data, zero, scale, axis = (np.asarray(given[k]) for k in ("quantized_data", "zero_point", "scale", "axis"))
    along = [-1 if i == int(axis) % data.ndim else 1 for i in range(data.ndim)]
    zero, scale = (v.reshape(along) if v.ndim else v for v in (zero, scale))
    result: NDArray[Any] = (data.astype(scale.dtype) - zero.astype(scale.dtype)) * scale
    return result


def _dtype(element: int) -> Any:
    if element not in ELEMENTS:
        raise Unsupported(f"the element type {element} is outside what the reference interpreter reads")
    return ELEMENTS[element]
