"""Files with their intermediate values open: what each format's runtime computes between input and output.

The writers name values after the nodes of the graph, so a value in a file is found by its node. To add a format: a file
here, a line in `INSIDES`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from importlib import import_module
from pathlib import Path

from lightseg.errors import Unsupported
from lightseg.export.inside.part import Inside

__all__ = ["INSIDES", "Inside", "open_inside"]

INSIDES = {
    "onnx": "onnx:OnnxInside",
    "tflite": "tflite:TfliteInside",
    "coreml": "mil:MilInside",
    "ncnn": "ncnn:NcnnInside",
    "openvino": "openvino:OpenVinoInside",
    "tensorrt": "tensorrt:TensorRtInside",
    "tensorrt_rtx": "tensorrt:TensorRtRtxInside",
    "executorch": "executorch:ExecuTorchInside",
}
"""Module of this folder and class, by target."""


def open_inside(target: str, path: Path, nodes: Collection[str]) -> Inside:
    """The file ``path`` of ``target``, where values named in ``nodes`` are wanted.

    Errors: `Unsupported` where the format's runtime does not show its intermediate values.
    """
    if target not in INSIDES:
        raise Unsupported(
            f"--bisect looks into {', '.join(INSIDES)} files, not {target}; export the model to one of them"
        )
    module, _, name = INSIDES[target].partition(":")
    made: Callable[[Path, Collection[str]], Inside] = getattr(import_module(f"{__name__}.{module}"), name)
    return made(path, nodes)
