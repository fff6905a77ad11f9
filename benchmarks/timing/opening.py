"""From a subject to something that runs; used inside the measured process."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightseg.benchmarks.timing.inputs import how_many, network_inputs, own_size, photographs
from lightseg.benchmarks.timing.subject import INTERPRETER, Subject
from lightseg.errors import Unsupported
from lightseg.export.runner import Runner
from lightseg.spec import Preprocess

if TYPE_CHECKING:
    from lightseg.images import Photo


def opener(subject: Subject, threads: int) -> Callable[[], Runner]:
    """The function that makes ``subject`` ready: reading its file and setting up its runtime, every time anew."""
    if subject.path and subject.device == "cpu":
        return _artifact(subject, threads)
    from lightseg.benchmarks.cuda.making import make

    return partial(make, subject, threads)


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


def subject_inputs(subject: Subject, wanted: int, images: str | None) -> list[NDArray[Any]]:
    """Different N×3×H×W inputs; ``images`` is a folder of photographs or of packed ones, None the packaged portrait."""
    batch, _, height, width = subject.shape
    photos = sized_photographs(images, how_many(subject.shape, wanted), (height, width))
    preprocess = None if subject.preprocess is None else Preprocess.from_dict(subject.preprocess)
    return list(network_inputs(photos, preprocess, batch))


def sized_photographs(images: str | None, count: int, size: tuple[int, int]) -> list[Photo]:
    """``count`` photographs at the network's ``size``, packed ones where the folder holds them."""
    packed = _packed(images, size)
    if packed is not None:
        return list(packed[:count])
    return photographs(count, size, Path(images) if images else None)


def own_photographs(images: str | None) -> list[Photo]:
    """A few photographs at their own size."""
    packed = _packed(images, None)
    return list(packed) if packed is not None else own_size(Path(images) if images else None)


def pack_photographs(
    images: str | None, count: int, size: tuple[int, int] | None, folder: Path, there: Collection[str] = ()
) -> Path | None:
    """What `sized_photographs`, or without a ``size`` `own_photographs`, return, as a file for another machine.

    A machine that is measured needs no decoder and no photographs of its own then. None where the file is ``there``.
    """
    path = folder / _pack_name(size)
    if path.name in there:
        return None
    photos = own_photographs(images) if size is None else sized_photographs(images, count, size)
    np.savez(path, *photos)
    return path


def _packed(images: str | None, size: tuple[int, int] | None) -> list[Photo] | None:
    path = Path(images or "") / _pack_name(size)
    if images is None or not path.is_file():
        return None
    with np.load(path) as file:
        return [file[f"arr_{i}"] for i in range(len(file.files))]


def _pack_name(size: tuple[int, int] | None) -> str:
    return "photographs-own-size.npz" if size is None else f"photographs-{size[0]}x{size[1]}.npz"
