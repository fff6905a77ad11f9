"""weight.bin: where a package keeps every array too long to stand in the program itself.

A 64-byte header (count, version), then for every array a 64-byte record (0xDEADBEEF, element type, size in bytes,
position) and its values. All numbers are little-endian.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightseg.errors import BadInput, Unsupported

VERSION = 2
MARK = 0xDEADBEEF
HEADER = struct.Struct("<II")
RECORD = struct.Struct("<IIQQ")
ALIGNMENT = 64
ELEMENTS: dict[int, Any] = {
    1: np.float16, 2: np.float32, 3: np.uint8, 4: np.int8, 6: np.int16, 7: np.uint16, 14: np.int32, 15: np.uint32,
}  # fmt: skip
"""Element types by their number in the file; the packed types below eight bits are not read."""


class WeightFile:
    """The arrays of one weight.bin, found by the position of their record."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._data = path.read_bytes()
        except OSError as error:
            raise BadInput(f"{path} cannot be read ({error.strerror}); export it again") from error
        version = HEADER.unpack_from(self._data)[1] if len(self._data) >= ALIGNMENT else None
        if version != VERSION:
            raise BadInput(f"{path} is not a weight file of version {VERSION} (found {version}); export it again")

    def read(self, offset: int) -> NDArray[Any]:
        """The values at the record that starts at byte ``offset``, one-dimensional.

        Errors: `BadInput` where there is no whole array there; `Unsupported` for packed element types.
        """
        if offset % ALIGNMENT or not ALIGNMENT <= offset <= len(self._data) - RECORD.size:
            raise BadInput(f"{self.path}: no array can start at byte {offset}; the package is damaged, export it again")
        mark, element, size, start = RECORD.unpack_from(self._data, offset)
        if mark != MARK or start + size > len(self._data):
            raise BadInput(f"{self.path}: the array at byte {offset} is damaged or cut off; export it again")
        if element not in ELEMENTS:
            raise Unsupported(
                f"{self.path}: arrays of element type {element} are not read by the reference interpreter"
            )
        dtype = np.dtype(ELEMENTS[element])
        if size % dtype.itemsize:
            raise BadInput(f"{self.path}: the array at byte {offset} ends inside a value; export it again")
        return np.frombuffer(self._data, dtype.newbyteorder("<"), size // dtype.itemsize, start)
