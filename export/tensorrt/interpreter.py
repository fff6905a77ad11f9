"""The reference interpreter: runs a network as the vendor's parser left it, layer by layer, in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from lightseg.errors import BadInput, Unsupported
from lightseg.export.tensorrt.layers import DTYPES, FLOATS, LAYERS, Call
from lightseg.export.tensorrt.network import Step, Value, Walked, read_network


@dataclass(frozen=True)
class Program:
    """A walked network, ready to run."""

    path: Path
    network: Walked

    @property
    def arithmetic(self) -> str:
        """In words, for the record."""
        elements = {value.element for step in self.network.steps for value in step.outputs}
        quantised = ", values between quantise and dequantise int8" if "INT8" in elements else ""
        return ("float16 after every layer, float32 within" if "HALF" in elements else "float32") + quantised

    @property
    def takes_images(self) -> bool:
        return self.network.input.element == "UINT8"

    def run(self, x: Tensor, dtype: torch.dtype = torch.float32, rounding: bool = True) -> Tensor:
        """The output for an input of the network's shape.

        ``dtype`` is the type of the arithmetic; with ``rounding`` a value the network declares as half is rounded to
        float16 after every layer, so that overflow and lost digits happen where the network lets them. Sums inside
        one layer keep the width of ``dtype``.

        Errors: `BadInput` where a value has not the declared shape; `Unsupported` for an attribute nobody knows.
        """
        values = {self.network.input.name: x if self.takes_images else x.to(dtype)}
        for step, done in zip(self.network.steps, self._done):
            values |= self.step(step, values, dtype, rounding)
            for name in done:
                del values[name]
        return values[self.network.output.name]

    @cached_property
    def _done(self) -> list[set[str]]:
        """Per step the values nobody reads afterwards: at full size they would fill gigabytes."""
        read, done = {self.network.output.name}, []
        for step in reversed(self.network.steps):
            names = {*filter(None, step.inputs), *(value.name for value in step.outputs)}
            done.append(names - read)
            read |= names
        return done[::-1]

    def step(
        self, step: Step, values: Mapping[str, Tensor], dtype: torch.dtype = torch.float32, rounding: bool = True
    ) -> dict[str, Tensor]:
        """One layer's results by name; errors and arithmetic as in `run`."""
        call = Call(step, tuple(values[name] for name in step.inputs if name), dtype)
        try:
            found = LAYERS[step.kind](call)
        except (RuntimeError, IndexError, ValueError) as error:  # what does not fit together
            raise BadInput(f"{self.path}: {step.what} cannot run ({str(error).splitlines()[0]})") from error
        except Unsupported as error:
            raise Unsupported(f"{self.path}: {error}") from error
        results = found if isinstance(found, tuple) else (found,)
        return {v.name: self._declared(step, v, y, rounding) for v, y in zip(step.outputs, results, strict=True)}

    def _declared(self, step: Step, value: Value, y: Tensor, rounding: bool) -> Tensor:
        if tuple(y.shape) != value.shape:
            raise BadInput(f"{self.path}: {step.what} gives {list(y.shape)}, declared is {list(value.shape)}")
        fits = y.is_floating_point() if value.element in FLOATS else y.dtype == DTYPES.get(value.element)
        if not fits:
            raise BadInput(f"{self.path}: {step.what} gives {y.dtype}, declared is {value.element}")
        return y.to(torch.float16).to(y.dtype) if rounding and value.element == "HALF" else y


def read_program(module: str, path: Path, data: bytes) -> Program:
    """The ONNX model ``data`` of the artifact ``path``. Errors: those of `read_network`."""
    program = Program(path, read_network(module, data, str(path)))
    known = {program.network.input.name}
    for step in program.network.steps:
        if missing := sorted({*step.inputs} - known - {""}):
            raise BadInput(f"{path}: {step.what} uses {missing[0]} before it exists; export it again")
        known |= {value.name for value in step.outputs}
    if program.network.output.name not in known:
        raise BadInput(f"{path}: the output {program.network.output.name} is never computed; export it again")
    return program
