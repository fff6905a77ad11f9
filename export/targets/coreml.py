"""Core ML, written as an ML Program; run by Apple's runtime on macOS and by a reference interpreter elsewhere."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightseg.errors import BadInput, UnknownName, Unsupported
from lightseg.export.artifact import METADATA_NAME
from lightseg.export.quantization.scheme import Scheme
from lightseg.export.runner import Runner, wrong_size
from lightseg.export.targets.target import Plan, Target

if TYPE_CHECKING:
    from lightseg.export.rewrites import Rewrite


OLDEST = "oldest"
SPECIFICATION = {"iOS15": 6, "iOS16": 7, "iOS17": 8, "iOS18": 9}
"""Deployment targets, oldest first, with the version a package written for them has; macOS 12 … 15 are the same."""


def deployment(word: str, precision: str) -> str:
    """The oldest system that is to run the package: the one asked for, or with ``oldest`` the first that can.

    Errors: `UnknownName` for no deployment target, `Unsupported` for one that cannot run ``precision``.
    """
    from lightseg.export.writers.mil import DEPLOYMENT, INT8_DEPLOYMENT

    first = INT8_DEPLOYMENT if precision == "int8" else DEPLOYMENT
    if word == OLDEST:
        return first
    if word not in SPECIFICATION:
        raise UnknownName("deployment target", word, SPECIFICATION)
    if SPECIFICATION[word] < SPECIFICATION[first]:
        raise Unsupported(f"Core ML quantises values from {first} on; use --deployment-target {first} or leave it")
    return word


def convert(plan: Plan, path: Path) -> None:
    from lightseg.export.writers.mil import write_mil

    made_for = deployment(next(iter(plan.capabilities), OLDEST), plan.precision)
    write_mil(plan.graph, plan.input_shape, plan.output, path, plan.precision == "fp16", made_for)


def facts(path: Path) -> dict[str, Any]:
    """The deployment target, as the saved package has it."""
    from lightseg.export.mil.package import read_package

    version = read_package(path).model.specificationVersion
    return {"deployment_target": next(name for name, number in SPECIFICATION.items() if number == version)}


class InterpretedRunner(Runner):
    """The saved package, executed operation by operation in PyTorch: right about the program, silent about hardware."""

    def __init__(self, path: Path, threads: int) -> None:
        if find_spec("torch") is None:
            raise Unsupported(
                f"{path} runs on this system in the reference interpreter, which computes in PyTorch: "
                "install it with: pip install torch (a Mac runs the file itself, without it)"
            )
        import torch

        from lightseg import __version__
        from lightseg.export.mil.interpreter import read_program

        self._torch = torch
        torch.set_num_threads(threads)
        self._program = read_program(path)
        self._x = self._y = torch.empty(0)
        self.name = "reference interpreter"
        rounded = "float16 after every operation, float32 within" if self._program.is_float16 else "float32"
        self.details = {
            "runtime": "reference interpreter",
            "version": __version__,
            "arithmetic": rounded,
            "operations": str(len(self._program.steps)),
            "threads": str(threads),
            **_int8_layers(path),
        }

    def feed(self, x: NDArray[Any]) -> None:
        if tuple(x.shape) != self._program.input_shape:
            raise wrong_size(self._program.input_shape, x.shape)
        native = np.ascontiguousarray(x, np.uint8 if self._program.takes_images else np.float32)
        self._x = self._torch.from_numpy(native)

    def run(self) -> None:
        with self._torch.inference_mode():
            self._y = self._program.run(self._x)

    def fetch(self) -> NDArray[Any]:
        result: NDArray[Any] = self._y.numpy()
        return result


class AppleRunner(Runner):
    """Apple's runtime on the compute units it chooses; exists on macOS alone."""

    def __init__(self, path: Path, threads: int) -> None:
        import coremltools

        from lightseg.export.mil.package import interface

        self._interface = interface(path)
        try:
            self._model = coremltools.models.MLModel(str(path))
        except Exception as error:  # the runtime raises plain exceptions
            raise BadInput(f"{path} does not load in Core ML: {str(error).splitlines()[0]}") from error
        self._x: Any = None
        self._y: NDArray[Any] = np.empty(0)
        self.name = "coreml"
        self.details = {"runtime": "Core ML", "version": coremltools.__version__, "compute_units": "ALL"}
        self.details |= _int8_layers(path)

    def feed(self, x: NDArray[Any]) -> None:
        from PIL import Image

        takes = self._interface
        if tuple(x.shape) != takes.shape:
            raise wrong_size(takes.shape, x.shape)
        pixels = x[0].transpose(1, 2, 0)
        self._x = Image.fromarray(pixels.astype(np.uint8)) if takes.image else np.ascontiguousarray(x, np.float32)

    def run(self) -> None:
        self._y = self._model.predict({self._interface.input: self._x})[self._interface.output]

    def fetch(self) -> NDArray[Any]:
        return self._y


def _int8_layers(path: Path) -> dict[str, str]:
    """Convolutions of int8 values by int8 weights, as the program says; which unit computes them it cannot say."""
    from lightseg.export.mil.package import int8_convolutions

    found = int8_convolutions(path)
    return {"int8_layers": str(found), "weights": "int8 and float32"} if found else {}


def load(path: Path, threads: int) -> Runner:
    return AppleRunner(path, threads) if sys.platform == "darwin" else InterpretedRunner(path, threads)


def stamp(path: Path, text: str) -> None:
    from lightseg.export.mil.package import store_text

    store_text(path, METADATA_NAME, text)


def read_record(path: Path) -> str | None:
    from lightseg.export.mil.package import stored_text

    return stored_text(path, METADATA_NAME)


def rewrites() -> tuple[Rewrite, ...]:
    """Equalised weights keep C3Net inside float16; for float32 they change no bit that matters."""
    from lightseg.export.rewrites import ALWAYS
    from lightseg.export.rewrites.equalise import equalise

    return (*ALWAYS, equalise)


COREML = Target(
    name="coreml",
    suffix=".mlpackage",
    extra="coreml",
    precisions=("fp32", "fp16", "int8"),
    int8=Scheme(),
    dynamic=False,
    layout="NCHW",
    rewrites=rewrites,
    convert=convert,
    convert_needs=("coremltools",),
    load=load,
    load_needs=("coremltools",),
    stamp=stamp,
    read_record=read_record,
    folder=True,
    image_input="image RGB",
    mask_element="int32",
    facts=facts,
    capabilities=(OLDEST,),
)
