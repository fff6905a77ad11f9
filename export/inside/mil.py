"""Core ML: the reference interpreter, which computes every value in turn anyway."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch

from lightseg.export.inside.part import IMAGE, Array, part_before
from lightseg.export.mil.arguments import Value
from lightseg.export.mil.interpreter import Program, read_program

FILE = "program.mlpackage"


class MilInside:
    """See `Inside`."""

    runs = "the reference interpreter, which reads the file and is not Core ML: what is right here may fail on a device"

    def __init__(self, path: Path, nodes: Collection[str]) -> None:
        self._path, self._program = path, read_program(path)
        self._makes = [step.output for step in self._program.steps]
        constants = self._program.constants
        self._reads = [
            [v for values in step.inputs.values() for v in values if isinstance(v, str) and v not in constants]
            for step in self._program.steps
        ]
        self._known = (set(nodes) & set(self._makes)) | {self._program.input, self._program.output}
        self._part = cache(lambda node: part_before(node, self._makes, self._reads, self._known))

    def values(self, x: Array) -> dict[str, Array]:
        return self._run(range(len(self._makes)), {IMAGE: x}, self._known - {self._program.input})

    def reads(self, node: str) -> tuple[str, ...]:
        return self._part(node).inputs

    def alone(self, node: str, given: Mapping[str, Array]) -> Array:
        part = self._part(node)
        return self._run(part.steps, {name: given[name] for name in part.inputs}, {node})[node]

    def second_opinion(self, node: str, given: Mapping[str, Array]) -> tuple[str, Array] | None:
        return None

    def save(self, node: str, folder: Path) -> str:
        """The whole package: a function of several inputs is no program the interpreter reads."""
        shutil.copytree(self._path, folder / FILE)
        return SCRIPT.format(node=node)

    def _run(self, steps: Collection[int], given: Mapping[str, Array], wanted: Collection[str]) -> dict[str, Array]:
        program: Program = self._program
        values: dict[str, Value] = {**program.constants}
        values |= {name: torch.from_numpy(np.ascontiguousarray(value, np.float32)) for name, value in given.items()}
        with torch.inference_mode():
            for i in sorted(steps):
                values[program.steps[i].output] = program.step(program.steps[i], values)
        return {name: np.asarray(values[name]) for name in wanted}


SCRIPT = f'''
def run(inputs):
    from lightseg.export.inside.mil import MilInside

    program = MilInside(HERE / "{FILE}", ["{{node}}", *NAMES])
    return program.alone("{{node}}", dict(zip(NAMES, inputs)))
'''
