"""ncnn: every blob can be read and set, so one net serves for the whole file and for single layers.

What a Quantize layer makes is shown as what its whole numbers are worth. Set as floats, a convolution of the file turns
them into the same numbers itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lightseg.export.inside.part import IMAGE, Array, part_before
from lightseg.export.targets.ncnn import BIN, PARAM, WIDE
from lightseg.export.writers.ncnn_weights import Line, layers_in, weights_in

FILE = "file.ncnn"
FAST = ("use_packing_layout", "use_winograd_convolution", "use_sgemm_convolution")


class NcnnInside:
    """See `Inside`. The writer calls the blob of a node ``<node>.out``, the last one by the output's name."""

    runs = "ncnn on the CPU, every blob kept: the kernels of the file itself, but none works in place"

    def __init__(self, path: Path, nodes: Collection[str]) -> None:
        self._path, self._net = path, _net(path)
        lines = layers_in((path / PARAM).read_text(encoding="utf-8"))
        makes = [blob for line in lines for blob in line.outputs]
        reads = [line.inputs for line in lines for _ in line.outputs]
        blobs = {(node if node in makes else f"{node}.out"): node for node in nodes}
        self._nodes = {blob: node for blob, node in blobs.items() if blob in makes} | {IMAGE: IMAGE}
        self._blob = {node: blob for blob, node in self._nodes.items()}
        self._worth = _steps(lines, (path / BIN).read_bytes())
        self._part = cache(lambda node: part_before(self._blob[node], makes, reads, self._nodes))

    def values(self, x: Array) -> dict[str, Array]:
        return self._extract(self._net, {IMAGE: x}, [node for node in self._blob if node != IMAGE])

    def reads(self, node: str) -> tuple[str, ...]:
        return tuple(self._nodes[blob] for blob in self._part(node).inputs)

    def alone(self, node: str, given: Mapping[str, Array]) -> Array:
        return self._extract(self._net, self._set(given), [node])[node]

    def second_opinion(self, node: str, given: Mapping[str, Array]) -> tuple[str, Array] | None:
        net = _net(self._path, dict.fromkeys(FAST, False))
        return "no packing, no Winograd, no sgemm", self._extract(net, self._set(given), [node])[node]

    def save(self, node: str, folder: Path) -> str:
        """The whole artifact: any layer of it can be run alone."""
        shutil.copytree(self._path, folder / FILE)
        return SCRIPT.format(node=node)

    def _set(self, given: Mapping[str, Array]) -> dict[str, Array]:
        return {self._blob[node]: value for node, value in given.items()}

    def _extract(self, net: Any, given: Mapping[str, Array], nodes: Collection[str]) -> dict[str, Array]:
        """``given`` by blob; the values by node."""
        found = _extract(net, given, {node: self._blob[node] for node in nodes})
        return {node: value * self._worth.get(self._blob[node], 1) for node, value in found.items()}


def _steps(lines: list[Line], data: bytes) -> dict[str, Array]:
    """What one step is worth, by the blob of a Quantize layer."""
    blobs = {line.name: line.outputs[0] for line in lines if line.kind == "Quantize"}
    scales = [array for array in weights_in(lines, data) if array.layer in blobs]
    return {blobs[array.layer]: 1 / np.frombuffer(data, "<f4", 1, array.start) for array in scales}


def _net(path: Path, options: Mapping[str, bool] | None = None) -> Any:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads, net.opt.use_vulkan_compute, net.opt.lightmode = 1, False, False
    net.opt.use_int8_inference = True
    for name, value in (dict.fromkeys(WIDE, False) | dict(options or {})).items():
        if hasattr(net.opt, name):
            setattr(net.opt, name, value)
    net.load_param(str(path / PARAM))
    net.load_model(str(path / BIN))
    return net


def _extract(net: Any, given: Mapping[str, Array], wanted: Mapping[str, str]) -> dict[str, Array]:
    """``given`` by blob; the values of the blobs ``wanted``, by node."""
    import ncnn

    extractor = net.create_extractor()
    for blob, value in given.items():
        # Memory of its own: ncnn reads whole vectors past the end of what it is lent.
        mat = ncnn.Mat(*value.shape[:0:-1])
        np.asarray(mat)[:] = value[0]
        extractor.input(blob, mat)
    return {node: np.array(extractor.extract(blob)[1])[None] for node, blob in wanted.items()}


SCRIPT = f'''
def run(inputs):
    from lightseg.export.inside.ncnn import NcnnInside

    return NcnnInside(HERE / "{FILE}", ["{{node}}", *NAMES]).alone("{{node}}", dict(zip(NAMES, inputs)))
'''
