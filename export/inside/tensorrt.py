"""TensorRT: the reference interpreter of the network as parsed, which computes every value in turn anyway."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightseg.export.inside.part import IMAGE, Array, part_before
from lightseg.export.targets.folder import member
from lightseg.export.tensorrt.artifact import NETWORK
from lightseg.export.tensorrt.interpreter import read_program


class TensorRtInside:
    """See `Inside`. ``module`` is the package whose parser reads the network."""

    module = "tensorrt"
    runs = "the reference interpreter, which runs the network as parsed and no engine: on a GPU it may still fail"

    def __init__(self, path: Path, nodes: Collection[str]) -> None:
        self._file = member(path, NETWORK)
        self._program = read_program(self.module, path, self._file.read_bytes())
        network = self._program.network
        self._steps = network.steps
        # A layer of several values is found by any of them; of ours only the index of the best has two.
        made = [(i, value.name) for i, step in enumerate(self._steps) for value in step.outputs]
        self._step_of = [i for i, _ in made]
        self._makes = [name for _, name in made]
        self._constants: dict[str, Tensor] = {}
        for step in self._steps:
            if step.kind == "CONSTANT":
                self._constants |= self._program.step(step, {})
        self._reads = [[n for n in self._steps[i].inputs if n and n not in self._constants] for i in self._step_of]
        self._known = (set(nodes) & set(self._makes)) | {IMAGE, network.output.name}
        self._part = cache(lambda node: part_before(node, self._makes, self._reads, self._known))

    def values(self, x: Array) -> dict[str, Array]:
        return self._run(range(len(self._steps)), {IMAGE: x}, self._known - {IMAGE})

    def reads(self, node: str) -> tuple[str, ...]:
        return self._part(node).inputs

    def alone(self, node: str, given: Mapping[str, Array]) -> Array:
        part = self._part(node)
        steps = {self._step_of[i] for i in part.steps}
        return self._run(sorted(steps), {name: given[name] for name in part.inputs}, {node})[node]

    def second_opinion(self, node: str, given: Mapping[str, Array]) -> tuple[str, Array] | None:
        return None

    def save(self, node: str, folder: Path) -> str:
        """The whole network, whose part the interpreter runs."""
        (folder / self.module).mkdir(exist_ok=True)
        shutil.copy(self._file, folder / self.module / NETWORK)
        return SCRIPT.format(node=node, module=self.module, name=type(self).__name__)

    def _run(self, steps: Collection[int], given: Mapping[str, Array], wanted: Collection[str]) -> dict[str, Array]:
        values = self._constants | {name: self._taken(name, value) for name, value in given.items()}
        with torch.inference_mode():
            for i in steps:
                values |= self._program.step(self._steps[i], values)
        return {name: np.asarray(values[name]) for name in wanted}

    def _taken(self, name: str, value: Array) -> Tensor:
        if name == IMAGE and self._program.takes_images:
            return torch.from_numpy(np.ascontiguousarray(value.transpose(0, 2, 3, 1), np.uint8))
        return torch.from_numpy(np.ascontiguousarray(value, np.float32))


class TensorRtRtxInside(TensorRtInside):
    """The same, read by TensorRT-RTX."""

    module = "tensorrt_rtx"


SCRIPT = """
def run(inputs):
    from lightseg.export.inside.tensorrt import {name}

    network = {name}(HERE / "{module}", ["{node}", *NAMES])
    return network.alone("{node}", dict(zip(NAMES, inputs)))
"""
