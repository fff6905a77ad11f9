"""A float16 file computed in float16, as an app on a phone asks its runtime to; used inside the emulated computer.

Left alone, the runners of `lightseg.export.targets` make float32 of float16 weights, so that every machine answers the
same. Processors with float16 arithmetic then do twice the work they need, and apps ask for the narrower kind. Asking
is not getting: see `lightseg.benchmarks.arm64.emulate`, which counts the float16 multiply-adds that really ran.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from lightseg.export.runner import Runner
from lightseg.export.targets.ncnn import BIN, PARAM, NcnnRunner
from lightseg.export.targets.tflite import LiteRtRunner

ALLOWS = "reduced_precision_support"
"""The metadata by which a TFLite file tells XNNPACK that float16 is good enough."""
KINDS = "fp16accfp16"
"""For values and for sums."""
ARITHMETIC = "float16"


def in_litert(path: Path) -> Runner:
    """A copy of the file that allows float16, which XNNPACK then takes where the processor has it."""
    from lightseg.export.writers.flatbuffer import with_metadata

    with tempfile.TemporaryDirectory(prefix="lightseg-half-") as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(with_metadata(path.read_bytes(), ALLOWS, KINDS))
        runner = LiteRtRunner(copy, 1)
    runner.details["arithmetic"] = ARITHMETIC
    return runner


class HalfNcnnRunner(NcnnRunner):
    """ncnn with the options it has when nobody changes them, which are float16 wherever the processor can."""

    def __init__(self, path: Path, threads: int) -> None:
        super().__init__(path, threads)  # which checks the files
        self._net = self._ncnn.Net()
        self._net.opt.num_threads, self._net.opt.use_vulkan_compute = threads, False
        self._net.load_param(str(path / PARAM))
        self._net.load_model(str(path / BIN))
        self.details |= {"arithmetic": ARITHMETIC, "off": ""}


def in_ncnn(path: Path) -> Runner:
    return HalfNcnnRunner(path, 1)


HALF: dict[str, Callable[[Path], Runner]] = {".tflite": in_litert, ".ncnn": in_ncnn}
"""By suffix: the formats whose runtime can be asked."""
