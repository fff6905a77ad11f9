"""Defects seeded into a saved .mlpackage, each the kind of mistake a converter or a person makes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightseg.export.artifact import Artifact
from lightseg.export.mil.package import Package, read_package
from lightseg.export.mil.values import Constants
from lightseg.export.mil.weights import RECORD, WeightFile

Edit = Callable[[NDArray[Any]], NDArray[Any]]


def without_sidecar(artifact: Artifact, folder: Path) -> Path:
    """A copy that has only the record inside it, so that no hash gives a defect away."""
    path = folder / artifact.path.name
    shutil.copytree(artifact.path, path)
    return path


class Patient:
    """One package under the knife; `save` writes it back."""

    def __init__(self, folder: Path) -> None:
        self.package: Package = read_package(folder)
        self.function = self.package.model.mlProgram.functions["main"]
        self.block = self.function.block_specializations[self.function.opset]

    def operations(self, kind: str) -> list[Any]:
        return [o for o in self.block.operations if o.type == kind]

    def value(self, operation: Any, parameter: str) -> Any:
        """The protobuf value behind a constant parameter."""
        name = operation.inputs[parameter].arguments[0].name
        (constant,) = (o for o in self.operations("const") if o.outputs[0].name == name)
        return constant.attributes["val"]

    def array(self, operation: Any, parameter: str) -> NDArray[Any]:
        found = Constants(self.package).decode(self.value(operation, parameter))
        assert isinstance(found, np.ndarray)
        return found

    def edit(self, operation: Any, parameter: str, change: Edit) -> None:
        """Replace a constant by ``change`` of it, where it lies: in the program or in weight.bin."""
        value, old = self.value(operation, parameter), self.array(operation, parameter)
        new = np.asarray(change(old.copy()), old.dtype, order="C")
        assert new.shape == old.shape and new.tobytes() != old.tobytes(), "the defect changes nothing"
        if value.WhichOneof("value") == "blobFileValue":
            self._patch_file(value.blobFileValue.offset, new.tobytes())
            return
        tensor = value.immediateValue.tensor
        kind = tensor.WhichOneof("value")
        if kind == "bytes":
            tensor.bytes.values = new.tobytes()
        else:
            getattr(tensor, kind).values[:] = new.reshape(-1).tolist()

    def _patch_file(self, offset: int, data: bytes) -> None:
        assert self.package.weights is not None
        path = self.package.weights / "weight.bin"
        WeightFile(path).read(offset)
        whole = bytearray(path.read_bytes())
        start = RECORD.unpack_from(whole, offset)[3]
        whole[start : start + len(data)] = data
        path.write_bytes(whole)

    def weights(self) -> Iterator[tuple[Any, NDArray[Any]]]:
        for operation in self.operations("conv"):
            yield operation, self.array(operation, "weight")

    def save(self) -> None:
        self.package.save_model()


def flip_align_corners(p: Patient) -> None:
    """Of every enlargement; equal constants are stored once, so each is flipped once."""
    operations = p.operations("upsample_bilinear")
    for operation in {o.inputs["align_corners"].arguments[0].name: o for o in operations}.values():
        p.edit(operation, "align_corners", np.logical_not)


def drop_negative_slopes(p: Patient) -> None:
    """Of every PReLU that has some."""
    for operation in p.operations("prelu"):
        if (p.array(operation, "alpha") < 0).any():
            p.edit(operation, "alpha", lambda a: np.maximum(a, 0))


def negate_a_slope(p: Patient) -> None:
    p.edit(p.operations("prelu")[0], "alpha", np.negative)


def swap_red_and_blue(p: Patient) -> None:
    first, _ = next((o, w) for o, w in p.weights() if w.shape[1] == 3)
    p.edit(first, "weight", lambda w: w[:, ::-1])


def corrupt_a_weight(p: Patient) -> None:
    """The exponent of one weight, as a flipped bit on a disk would leave it."""
    first, _ = next(p.weights())

    def flip(w: NDArray[Any]) -> NDArray[Any]:
        w.reshape(-1)[w.size // 2] *= 16
        return w

    p.edit(first, "weight", flip)


def lose_a_bias(p: Patient) -> None:
    operation = next(o for o in p.operations("conv") if "bias" in o.inputs)
    p.edit(operation, "bias", np.zeros_like)


def shift_the_padding(p: Patient) -> None:
    """One row from the bottom to the top."""

    def shift(pad: NDArray[Any]) -> NDArray[Any]:
        pad += np.array([1, -1, 0, 0], pad.dtype)
        return pad

    operation = next(o for o in p.operations("conv") if p.array(o, "pad")[0] > 0)
    p.edit(operation, "pad", shift)


def transpose_a_kernel(p: Patient) -> None:
    operation = next(o for o, w in p.weights() if w.shape[2] == w.shape[3] > 1)
    p.edit(operation, "weight", lambda w: w.swapaxes(2, 3))


def take_a_branch_twice(p: Patient) -> None:
    """An addition reads its first input as its second too."""
    operation = next(o for o in p.operations("add") if not _reads_constant(p, o))
    operation.inputs["y"].arguments[0].name = operation.inputs["x"].arguments[0].name


def concatenate_a_branch_twice(p: Patient) -> None:
    shapes = {o.outputs[0].name: _shape(o.outputs[0]) for o in p.block.operations}
    for operation in p.operations("concat"):
        values = operation.inputs["values"].arguments
        if shapes.get(values[0].name) == shapes.get(values[1].name):
            values[1].name = values[0].name
            return
    raise AssertionError("no concat of two equal shapes")


def lose_a_prelu(p: Patient) -> None:
    """What reads an activation reads what was before it."""
    operation = p.operations("prelu")[0]
    before, after = operation.inputs["x"].arguments[0].name, operation.outputs[0].name
    for other in p.block.operations:
        for argument in other.inputs.values():
            for binding in argument.arguments:
                if binding.name == after:
                    binding.name = before


def take_stale_weights(p: Patient) -> None:
    """The convolution of another training: every weight a hundredth off."""
    first, _ = next(p.weights())
    noise = np.random.default_rng(0)
    p.edit(first, "weight", lambda w: w * (1 + 0.05 * noise.standard_normal(w.shape)))


def swap_the_classes(p: Patient) -> None:
    last = p.operations("conv_transpose") or p.operations("conv")
    operation = last[-1]
    axis = 1 if operation.type == "conv_transpose" else 0
    p.edit(operation, "weight", lambda w: np.flip(w, axis))


def lose_the_second_division(p: Patient) -> None:
    """By 255, of a file that normalises the pixels itself."""
    first, _ = next(p.weights())
    for parameter in ("weight", "bias"):
        p.edit(first, parameter, lambda v: v * 255)


def _reads_constant(p: Patient, operation: Any) -> bool:
    constants = {o.outputs[0].name for o in p.operations("const")}
    return any(operation.inputs[k].arguments[0].name in constants for k in ("x", "y"))


def _shape(named: Any) -> tuple[int, ...]:
    return tuple(d.constant.size for d in named.type.tensorType.dimensions)


FAULTS: dict[str, Callable[[Patient], None]] = {
    f.__name__: f
    for f in (
        flip_align_corners, drop_negative_slopes, negate_a_slope, swap_red_and_blue, corrupt_a_weight, lose_a_bias,
        shift_the_padding, transpose_a_kernel, take_a_branch_twice, concatenate_a_branch_twice, lose_a_prelu,
        take_stale_weights, swap_the_classes,
    )
}  # fmt: skip
