"""From a subject to a runner on its place; used inside the measured process."""

from __future__ import annotations

from pathlib import Path

from lightseg.benchmarks.architectures import ARCHITECTURES, build
from lightseg.benchmarks.cuda.place import Place, place
from lightseg.benchmarks.cuda.programs import EngineProgram, OnnxProgram, TorchProgram
from lightseg.benchmarks.cuda.runner import PlacedRunner, Program
from lightseg.benchmarks.timing.subject import Subject


def make(subject: Subject, threads: int) -> PlacedRunner:
    """``subject`` ready on its device. Errors: `Unsupported`, `BadInput`, and those of `create_model`."""
    import torch

    torch.set_num_threads(threads)
    at = place(subject.device)
    program = _torch(subject, at) if subject.path is None else _file(subject, threads, at)
    return PlacedRunner(program, at, subject.graph and not isinstance(program, OnnxProgram))


def _torch(subject: Subject, at: Place) -> Program:
    from lightseg.zoo import create_model

    assert subject.model is not None
    other = subject.model in ARCHITECTURES
    model = build(subject.model) if other else create_model(subject.model, subject.weights)
    return TorchProgram(model, subject.shape, at, subject.precision, subject.compiled)


def _file(subject: Subject, threads: int, at: Place) -> Program:
    path = Path(subject.path or "")
    if path.suffix == ".onnx":
        return OnnxProgram(path, subject.shape, at, threads, subject.graph, subject.precision == "tf32")
    return EngineProgram(path, subject.shape, at)
