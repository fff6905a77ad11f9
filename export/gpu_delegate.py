"""Whether LiteRT's GPU delegate takes a whole TFLite file, and what it then answers. A fact about the delegate.

The file is compiled for the GPU alone, where what the delegate does not take is an error; asked for GPU and CPU
together it gives the rest to the CPU and calls the model fully accelerated all the same. A software Vulkan driver
will do, so this says nothing of speed. The delegate runs in a process of its own, since some graphs end it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightseg.errors import ParityError, Unsupported
from lightseg.export.artifact import Artifact
from lightseg.export.record import read_artifact
from lightseg.export.runner import Runner

DRIVERS = ("/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/lib/chromium")
"""Folders of Vulkan drivers; Chromium brings SwiftShader, which needs no GPU, and the loader beside it."""
TALK = re.compile(r"(INFO|WARNING|I\d{4}|W\d{4})\b")
"""What LiteRT says however it ends."""
REFUSED = re.compile(r"(?!INFO|WARNING|ERROR)[A-Z0-9_]+: ")
LIMIT = 600
"""Seconds a software driver may take for one file."""


@dataclass(frozen=True)
class OnGpu:
    """``refused`` is empty where the delegate takes every operator; then the goldens were repeated on ``device``."""

    file: str
    operators: int
    refused: tuple[str, ...]
    """What it says of the operators it does not take, or how the process ended."""
    disagrees: str = ""
    """Why its answers are not PyTorch's; empty where they are."""
    relative_error: float | None = None
    """The largest error over the largest golden logit; None for masks and where nothing ran."""
    device: str = ""

    @property
    def ok(self) -> bool:
        return not (self.refused or self.disagrees)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok}

    def __str__(self) -> str:
        if self.refused:
            more = f" (and {len(self.refused) - 1} more)" if len(self.refused) > 1 else ""
            return f"{self.file}: the GPU delegate does not take {self.refused[0]}{more}"
        if self.disagrees:
            return f"{self.file}: on {self.device}, {self.disagrees}"
        error = "" if self.relative_error is None else f", error {self.relative_error:.1e} of the largest logit"
        return f"{self.file}: all {self.operators} operators on the GPU delegate ({self.device}){error}"


def why_not() -> str | None:
    """The reason no file can be compiled for a GPU here, with what to type; None when one can."""
    if find_spec("ai_edge_litert") is None:
        return "the GPU delegate comes with LiteRT: pip install 'lightseg[tflite]'"
    if _driver(os.environ) is None:
        return "the GPU delegate needs a Vulkan driver, a software one will do: apt-get install chromium"
    return None


def _driver(environment: Mapping[str, str]) -> Path | None:
    named = environment.get("VK_DRIVER_FILES") or environment.get("VK_ICD_FILENAMES")
    if named:
        return Path(named.split(os.pathsep)[0])
    return next((file for folder in DRIVERS for file in sorted(Path(folder).glob("*icd*.json"))), None)


def on_gpu(path: Path) -> OnGpu:
    """Compile the artifact ``path`` for the GPU alone and repeat its goldens there.

    Errors: `Unsupported` without a Vulkan driver; those of `read_artifact`.
    """
    reason = why_not()
    if reason:
        raise Unsupported(reason)
    artifact = read_artifact(path)
    driver = _driver(os.environ)
    assert driver is not None
    libraries = os.pathsep.join([str(driver.parent), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])
    settings = {"VK_DRIVER_FILES": str(driver), "VK_ICD_FILENAMES": str(driver), "LD_LIBRARY_PATH": libraries}
    command = [sys.executable, "-m", __spec__.name, str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **settings}, timeout=LIMIT
    )
    operators = _operators(path)
    if done.returncode:
        return OnGpu(artifact.path.name, operators, _refusal(done))
    said = json.loads(done.stdout.splitlines()[-1])
    adapter = re.search(r"Selected adapter: ([^,\n]+)", done.stderr)
    return OnGpu(artifact.path.name, operators, (), device=adapter[1] if adapter else "an unnamed GPU", **said)


def _refusal(done: subprocess.CompletedProcess[str]) -> tuple[str, ...]:
    listed = done.stderr.partition("not supported by GPU delegate:\n")[2].splitlines()
    found = list(takewhile(REFUSED.match, listed))
    if found:
        return tuple(found)
    last = [line for line in done.stderr.splitlines() if line.strip() and not TALK.match(line)][-1:]
    return (f"it: the process ended with {done.returncode}",) if done.returncode < 0 else tuple(last)


def _operators(path: Path) -> int:
    from lightseg.export.writers.flatbuffer import unpack

    return len(unpack(path.read_bytes()).subgraphs[0].operators)


class GpuRunner(Runner):
    """LiteRT's compiled model, on the GPU or not at all."""

    def __init__(self, artifact: Artifact) -> None:
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.hardware_accelerator import HardwareAccelerator

        self.name, self.details = "litert gpu", {"runtime": "ai-edge-litert", "delegate": "GPU"}
        self._model = CompiledModel.from_file(str(artifact.path), HardwareAccelerator.GPU)
        self._inputs, self._outputs = self._model.create_input_buffers(0), self._model.create_output_buffers(0)
        self._takes: Any = np.uint8 if artifact.baked else np.float32
        self._gives: Any = np.uint8 if artifact.layout["output"].endswith("uint8") else np.float32
        self._shape = artifact.output_shape

    def feed(self, x: NDArray[Any]) -> None:
        self._inputs[0].write(np.ascontiguousarray(x.transpose(0, 2, 3, 1), self._takes))

    def run(self) -> None:
        self._model.run_by_index(0, self._inputs, self._outputs)

    def fetch(self) -> NDArray[Any]:
        n, c, h, w = self._shape
        result: NDArray[Any] = self._outputs[0].read(n * c * h * w, self._gives)
        return result.reshape(n, h, w, c).transpose(0, 3, 1, 2)


def _in_child(path: Path) -> dict[str, Any]:
    from lightseg.export.parity import check_goldens

    artifact = read_artifact(path)
    try:
        errors = [one["max_error"] for one in check_goldens(artifact, GpuRunner(artifact))]
    except ParityError as error:
        return {"disagrees": str(error)}
    shares = [error / float(np.abs(g.samples).max()) for error, g in zip(errors, artifact.golden)]
    return {"relative_error": max(shares) if artifact.output == "logits" else None}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_in_child(Path(sys.argv[1]))) + "\n")
