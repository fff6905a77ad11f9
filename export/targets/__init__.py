"""The formats lightseg writes. To add one: a file here, a line in `TARGETS`, an extra in setup.cfg."""

from __future__ import annotations

from pathlib import Path

from lightseg.errors import BadInput, UnknownName
from lightseg.export.targets.coreml import COREML
from lightseg.export.targets.executorch import EXECUTORCH
from lightseg.export.targets.ncnn import NCNN
from lightseg.export.targets.onnx import ONNX
from lightseg.export.targets.openvino import OPENVINO
from lightseg.export.targets.target import Plan, Target
from lightseg.export.targets.tensorrt import TENSORRT
from lightseg.export.targets.tensorrt_rtx import TENSORRT_RTX
from lightseg.export.targets.tflite import TFLITE

__all__ = ["TARGETS", "Plan", "Target", "find_target", "named_targets", "target_of"]

TARGETS: dict[str, Target] = {
    t.name: t for t in (ONNX, TFLITE, COREML, OPENVINO, NCNN, TENSORRT_RTX, TENSORRT, EXECUTORCH)
}


def find_target(name: str) -> Target:
    if name not in TARGETS:
        raise UnknownName("target", name, TARGETS)
    return TARGETS[name]


def named_targets(text: str, precision: str, dynamic: bool = False) -> list[str]:
    """The names in ``--to a,b``; ``all`` means every target with this precision that this machine can write and run.

    Errors: `UnknownName` for the precision; `BadInput` where that is none: nothing done must not look like all well.
    """
    known = dict.fromkeys(name for t in TARGETS.values() for name in t.precisions)
    if precision not in known:
        raise UnknownName("precision", precision, known)
    able = [t for t in TARGETS.values() if not (t.why_not_convert() or t.why_not_load())]
    every = [t.name for t in able if precision in t.precisions and (t.dynamic or not dynamic)]
    names = every if text == "all" else [name for name in text.split(",") if name]
    if not names:
        raise BadInput(f"--to {text} names no target this machine can write in {precision}; see lightseg-export --list")
    return names


def target_of(path: Path) -> Target:
    """The target whose files end as ``path`` does."""
    for target in TARGETS.values():
        if path.name.removesuffix(".failed").endswith(target.suffix):
            return target
    endings = ", ".join(t.suffix for t in TARGETS.values())
    raise BadInput(f"{path} is no artifact lightseg knows: its name must end in one of {endings}")
