"""From a subject to something that runs; used inside the measured process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lightseg.benchmarks.inputs import how_many, network_inputs, photographs
from lightseg.benchmarks.subject import INTERPRETER, Subject
from lightseg.errors import Unsupported
from lightseg.export.runner import Runner
from lightseg.spec import Preprocess


def opener(subject: Subject, threads: int) -> Callable[[], Runner]:
    """The function that makes ``subject`` ready: reading its file and setting up its runtime, every time anew."""
    return _artifact(subject, threads) if subject.path else _eager(subject, threads)


def _artifact(subject: Subject, threads: int) -> Callable[[], Runner]:
    from lightseg.export.targets import target_of

    path = Path(subject.path or "")
    target = target_of(path)
    target.require(target.load_needs, "running")

    def make() -> Runner:
        runner = target.load(path, threads)
        if runner.details.get("runtime") == INTERPRETER:
            raise Unsupported(
                f"{path.name} runs in a reference interpreter here, whose time says nothing about a device; "
                "measure it where the format's own runtime is"
            )
        return runner

    return make


def _eager(subject: Subject, threads: int) -> Callable[[], Runner]:
    from lightseg.export.runner import torch_runner
    from lightseg.zoo import create_model

    assert subject.model is not None
    name, weights = subject.model, subject.weights
    if subject.device == "cuda":
        from lightseg.benchmarks.cuda import CudaRunner

        return lambda: CudaRunner(create_model(name, weights), subject.shape)
    return lambda: torch_runner(create_model(name, weights), threads)


def subject_inputs(subject: Subject, wanted: int, images: str | None) -> list[NDArray[Any]]:
    """Different N×3×H×W inputs; ``images`` is a folder of photographs, None the packaged portrait."""
    batch, _, height, width = subject.shape
    count = how_many(subject.shape, wanted)
    photos = photographs(count, (height, width), Path(images) if images else None)
    preprocess = None if subject.preprocess is None else Preprocess.from_dict(subject.preprocess)
    return list(network_inputs(photos, preprocess, batch))
