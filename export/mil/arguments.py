"""What one operation was given, and a check that all of it was understood."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightseg.errors import BadInput, Unsupported

Value = Tensor | NDArray[Any] | str
"""A computed value, or a constant of the program."""


class Arguments:
    """The named parameters of one operation.

    Reading marks a parameter as understood; `check_all_read` refuses the rest, so that a parameter this interpreter
    has never heard of cannot be passed over in silence.
    """

    def __init__(self, what: str, values: dict[str, list[Value]], dtype: torch.dtype) -> None:
        self._what, self._values, self._dtype = what, values, dtype
        self._read: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._values

    @property
    def dtype(self) -> torch.dtype:
        """Of the arithmetic."""
        return self._dtype

    def tensor(self, name: str) -> Tensor:
        (value,) = self._get(name)
        return self._as_tensor(name, value)

    def optional_tensor(self, name: str) -> Tensor | None:
        return self.tensor(name) if name in self else None

    def tensors(self, name: str) -> list[Tensor]:
        return [self._as_tensor(name, v) for v in self._get(name)]

    def ints(self, name: str, default: list[int] | None = None) -> list[int]:
        return [int(v) for v in self._array(name, default).reshape(-1)]

    def int(self, name: str, default: int | None = None) -> int:
        return int(self._array(name, default))

    def flag(self, name: str, default: bool | None = None) -> bool:
        return bool(self._array(name, default))

    def number(self, name: str, default: float | None = None) -> float:
        return float(self._array(name, default))

    def text(self, name: str, default: str | None = None) -> str:
        if name not in self and default is not None:
            return default
        (value,) = self._get(name)
        if not isinstance(value, str):
            raise BadInput(f"{self._what}: {name} is not a string; export it again")
        return value

    def refuse(self, why: str) -> Unsupported:
        return Unsupported(f"{self._what}: {why} is outside what the reference interpreter executes")

    def check_all_read(self) -> None:
        unknown = sorted(set(self._values) - self._read)
        if unknown:
            raise self.refuse(f"parameter {', '.join(unknown)}")

    def _get(self, name: str) -> list[Value]:
        if name not in self._values:
            raise BadInput(f"{self._what}: {name} is missing; the package is damaged, export it again")
        self._read.add(name)
        return self._values[name]

    def _as_tensor(self, name: str, value: Value) -> Tensor:
        """Floating-point constants are computed with in the interpreter's own type."""
        if isinstance(value, str):
            raise BadInput(f"{self._what}: {name} is a string; export it again")
        tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
        return tensor.to(self._dtype) if tensor.is_floating_point() else tensor

    def _array(self, name: str, default: Any) -> NDArray[Any]:
        if name not in self and default is not None:
            return np.asarray(default)
        (value,) = self._get(name)
        if not isinstance(value, np.ndarray):
            raise self.refuse(f"{name} that is no constant")
        return value
