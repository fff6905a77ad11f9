"""ncnn: every blob can be read and set, so one net serves for the whole file and for single layers."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lightseg.export.inside.part import IMAGE, Array, part_before
from lightseg.export.targets.ncnn import BIN, PARAM, WIDE

FILE = "file.ncnn"
FAST = ("use_packing_layout", "use_winograd_convolution", "use_sgemm_convolution")


class NcnnInside:
    """See `Inside`. The writer calls the blob of a node ``<node>.out``, the last one by the output's name."""

    runs = "ncnn on the CPU in float32, every blob kept: the kernels of the file itself, but none works in place"

    def __init__(self, path: Path, nodes: Collection[str]) -> None:
        self._path, self._net = path, _net(path)
        rows = [row.split() for row in (path / PARAM).read_text(encoding="utf-8").splitlines()[2:]]
        made = [(blob, row[4 : 4 + int(row[2])]) for row in rows for blob in _outputs(row)]
        makes, reads = [blob for blob, _ in made], [inputs for _, inputs in made]
        blobs = {(node if node in makes else f"{node}.out"): node for node in nodes}
        self._nodes = {blob: node for blob, node in blobs.items() if blob in makes} | {IMAGE: IMAGE}
        self._blob = {node: blob for blob, node in self._nodes.items()}
        self._part = cache(lambda node: part_before(self._blob[node], makes, reads, self._nodes))

    def values(self, x: Array) -> dict[str, Array]:
        return _extract(self._net, {IMAGE: x}, {node: blob for node, blob in self._blob.items() if node != IMAGE})

    def reads(self, node: str) -> tuple[str, ...]:
        return tuple(self._nodes[blob] for blob in self._part(node).inputs)

    def alone(self, node: str, given: Mapping[str, Array]) -> Array:
        return _extract(self._net, self._set(given), {node: self._blob[node]})[node]

    def second_opinion(self, node: str, given: Mapping[str, Array]) -> tuple[str, Array] | None:
        net = _net(self._path, dict.fromkeys(FAST, False))
        return "no packing, no Winograd, no sgemm", _extract(net, self._set(given), {node: self._blob[node]})[node]

    def save(self, node: str, folder: Path) -> str:
        """The whole artifact: any layer of it can be run alone."""
        shutil.copytree(self._path, folder / FILE)
        return SCRIPT.format(node=node)

    def _set(self, given: Mapping[str, Array]) -> dict[str, Array]:
        return {self._blob[node]: value for node, value in given.items()}


def _outputs(row: list[str]) -> list[str]:
    start = 4 + int(row[2])
    return row[start : start + int(row[3])]


def _net(path: Path, options: Mapping[str, bool] | None = None) -> Any:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads, net.opt.use_vulkan_compute, net.opt.lightmode = 1, False, False
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
