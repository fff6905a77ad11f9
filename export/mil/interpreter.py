"""The reference interpreter: runs the ML Program of a saved package, operation by operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightseg.errors import BadInput, Unsupported
from lightseg.export.mil.arguments import Arguments, Value
from lightseg.export.mil.operations import OPERATIONS
from lightseg.export.mil.package import Package, read_package
from lightseg.export.mil.values import BOOL, FLOAT16, FLOAT32, INT8, INT32, Constants, Shape, dequantised, tensor_type

CONSTANT, QUANTISED = "const", "constexpr_affine_dequantize"
RESULTS = {BOOL: torch.bool, INT8: torch.int8, INT32: torch.int32}
"""Element types of computed values that are not floating point."""


@dataclass(frozen=True)
class Step:
    """One operation: its parameters as names of values or as constants, and what it must return."""

    kind: str
    name: str
    inputs: dict[str, list[Any]]
    output: str
    element: int
    shape: Shape

    @property
    def what(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Program:
    """A decoded function of one image. ``steps`` are in the order of the file, which is the order of execution."""

    path: Path
    input: str
    input_shape: Shape
    takes_images: bool
    """Whether Core ML makes the input of an RGB image, as N×3×H×W numbers from 0 to 255."""
    output: str
    steps: tuple[Step, ...]
    constants: dict[str, Value]

    @property
    def is_float16(self) -> bool:
        return any(s.element == FLOAT16 for s in self.steps)

    def run(self, x: Tensor, dtype: torch.dtype = torch.float32, rounding: bool = True) -> Tensor:
        """The output for an input of ``input_shape``.

        ``dtype`` is the type of the arithmetic; with ``rounding`` a value the program declares as float16 is rounded
        to float16 after every operation, so that overflow and lost digits happen where the program lets them. Sums
        inside one operation keep the width of ``dtype``.

        Errors: `BadInput` where a shape is not the declared one; `Unsupported` for a parameter nobody knows.
        """
        values: dict[str, Value] = {**self.constants, self.input: x.to(dtype)}
        for step, done in zip(self.steps, self._done):
            values[step.output] = self.step(step, values, dtype, rounding)
            for name in done:
                del values[name]
        result = values[self.output]
        assert isinstance(result, Tensor)
        return result

    @cached_property
    def _done(self) -> list[set[str]]:
        """Per step the values nobody reads afterwards: at full size they would fill gigabytes."""
        read, done = {self.output}, []
        for step in reversed(self.steps):
            names = {step.output} | {v for vs in step.inputs.values() for v in vs if isinstance(v, str)}
            done.append(names - read)
            read |= names
        return done[::-1]

    def step(
        self, step: Step, values: dict[str, Value], dtype: torch.dtype = torch.float32, rounding: bool = True
    ) -> Tensor:
        """One operation's result from ``values``, which hold the constants too; errors and arithmetic as in `run`."""
        named = {k: [values[v] if isinstance(v, str) else v.value for v in vs] for k, vs in step.inputs.items()}
        arguments = Arguments(f"{self.path}: {step.what}", named, dtype)
        try:
            y = OPERATIONS[step.kind](arguments)
        except RuntimeError as error:  # shapes that do not fit
            raise BadInput(f"{self.path}: {step.what} cannot run ({str(error).splitlines()[0]})") from error
        arguments.check_all_read()
        if tuple(y.shape) != step.shape:
            raise BadInput(f"{self.path}: {step.what} gives {list(y.shape)}, declared is {list(step.shape)}")
        if y.is_floating_point() == (step.element in RESULTS):
            raise BadInput(f"{self.path}: {step.what} gives {y.dtype}, which is not the declared type")
        return y.to(torch.float16).to(dtype) if rounding and step.element == FLOAT16 else y


@dataclass(frozen=True)
class Inline:
    """A constant that stands in an operation's own parameter list."""

    value: Value


def read_program(folder: Path) -> Program:
    """Errors: `BadInput` for a damaged package, `Unsupported` names the first operation outside the set."""
    package = read_package(folder)
    function, block = _main(package)
    constants: dict[str, Value] = {}
    decode = Constants(package).decode
    steps = []
    try:
        for operation in block.operations:
            if operation.type == CONSTANT:
                constants[operation.outputs[0].name] = decode(operation.attributes["val"])
            elif operation.type == QUANTISED:
                given = {name: decode(value) for name, value in operation.attributes.items() if name != "name"}
                constants[operation.outputs[0].name] = dequantised(operation.outputs[0].name, given)
            else:
                steps.append(_step(folder, operation, decode))
        (given,), (output,) = function.inputs, block.outputs
    except (ValueError, IndexError) as error:
        raise BadInput(f"{folder}: the program is damaged ({error}); export it again") from error
    images = _takes_images(package)
    program = Program(folder, given.name, tensor_type(given)[1], images, output, tuple(steps), constants)
    _check_names(program)
    return program


def _takes_images(package: Package) -> bool:
    kind = package.model.description.input[0].type
    if kind.WhichOneof("Type") != "imageType":
        return False
    if kind.imageType.colorSpace != kind.imageType.RGB:
        raise Unsupported(f"{package.folder} takes images that are not RGB; export it again")
    return True


def _main(package: Package) -> tuple[Any, Any]:
    functions = package.model.mlProgram.functions
    if "main" not in functions:
        raise BadInput(f"{package.folder} has no function 'main'; export it again")
    function = functions["main"]
    if function.opset not in function.block_specializations:
        raise BadInput(f"{package.folder}: 'main' has no body for its opset; export it again")
    return function, function.block_specializations[function.opset]


def _step(folder: Path, operation: Any, decode: Callable[[Any], Any]) -> Step:
    (result,) = operation.outputs
    if operation.type not in OPERATIONS:
        raise Unsupported(
            f"{folder}: the operation {operation.type} ({result.name}) is outside what the reference interpreter runs"
        )
    element, shape = tensor_type(result)
    if element not in (FLOAT16, FLOAT32, *RESULTS):
        raise Unsupported(f"{folder}: {operation.type} {result.name} gives values of type {element}")
    inputs = {
        name: [b.name if b.WhichOneof("binding") == "name" else Inline(decode(b.value)) for b in argument.arguments]
        for name, argument in operation.inputs.items()
    }
    return Step(operation.type, result.name, inputs, result.name, element, shape)


def _check_names(program: Program) -> None:
    """Every value is defined before it is used."""
    known = {program.input, *program.constants}
    for step in program.steps:
        used = {v for values in step.inputs.values() for v in values if isinstance(v, str)}
        if not used <= known:
            raise BadInput(f"{program.path}: {step.what} uses {sorted(used - known)[0]} before it exists; export again")
        known.add(step.output)
    if program.output not in known:
        raise BadInput(f"{program.path}: the output {program.output} is never computed; export it again")
