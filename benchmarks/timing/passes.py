"""What is measured apart from the run, each in a pass of its own; used inside the measured process.

Nothing here runs while `child.Session.sample` does, so the samples of the run stay clean.
"""

from __future__ import annotations

import array
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from lightseg.benchmarks.timing.subject import Subject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightseg.export.runner import Runner
    from lightseg.images import Photo

FEWEST, MOST = 6, 100
"""Samples of a boundary outside the run: at least, whatever time they take, and at most."""


def time_masks(runner: Runner, subject: Subject, images: str | None, seconds: float) -> dict[str, Any]:
    """Photographs at their own size to masks of that size: resize, normalise, run, enlarge the logits, argmax."""
    reason = why_no_mask(subject)
    if reason:
        return {"samples_ns": [], "reason": reason}
    from lightseg.benchmarks.timing.opening import own_photographs
    from lightseg.predict import mask_of_photo
    from lightseg.spec import RAW, Labels, Preprocess

    assert subject.labels is not None
    preprocess = RAW if subject.preprocess is None else Preprocess.from_dict(subject.preprocess)
    labels, size = Labels.from_dict(subject.labels), (subject.shape[2], subject.shape[3])

    def one(photo: Photo) -> None:
        mask_of_photo(runner, photo, size, preprocess, labels)

    photos = own_photographs(images)
    samples = timed([partial(one, photo) for photo in photos], seconds)
    return {"samples_ns": samples, "photo_sizes": [list(photo.shape[:2]) for photo in photos], "reason": ""}


def why_no_mask(subject: Subject) -> str:
    """Why photographs cannot be turned into masks by this row; empty when they can."""
    if subject.labels is None:
        return "not applicable: what another network's outputs mean is not known"
    if subject.output != "logits":
        return f"not applicable: the file returns a {subject.output}, which cannot be enlarged to the photo smoothly"
    if subject.shape[0] != 1:
        return "not applicable: one photograph, and a batch of several"
    if find_spec("PIL") is None:
        return "not available: resizing photographs needs Pillow; install it there with: pip install pillow"
    return ""


def time_transfers(runner: Runner, subject: Subject, inputs: list[NDArray[Any]], seconds: float) -> dict[str, Any]:
    """An input to the device and the last output back, each time; nothing is run in between.

    ``there_ns`` and ``back_ns`` are the device's own times of the two copies, without the host's part, where it has a
    clock.
    """
    if subject.device == "cpu":
        return {"samples_ns": [], "reason": "not applicable: the processor reads the host's own memory"}

    parts: list[tuple[int, int]] = []
    clock: Callable[[], tuple[int, int]] | None = getattr(runner, "copies_ns", None)

    def there_and_back(x: NDArray[Any]) -> None:
        runner.feed(x)
        runner.fetch()
        if clock is not None:
            parts.append(clock())

    samples = timed([partial(there_and_back, x) for x in inputs], seconds)
    own = parts[-len(samples) :]
    there, back = ([part[i] for part in own] for i in (0, 1))
    return {"samples_ns": samples, "there_ns": there, "back_ns": back, "reason": ""}


def timed(calls: list[Callable[[], None]], seconds: float) -> list[int]:
    """Nanoseconds of the calls in turn, after two that are not timed."""
    for call in calls[:2]:
        call()
    samples = array.array("q")
    with no_collector():
        end = perf_counter_ns() + int(seconds * 1e9)
        while len(samples) < FEWEST or (len(samples) < MOST and perf_counter_ns() < end):
            call = calls[len(samples) % len(calls)]
            begin = perf_counter_ns()
            call()
            samples.append(perf_counter_ns() - begin)
    return list(samples)


def peak_of(subject: Subject, threads: int, images: str | None) -> dict[str, Any]:
    """The largest resident size of this process until three images have been run, and what it was before the model.

    Both hold the interpreter, NumPy and the three images; the first holds the runtime's code too.
    """
    from lightseg.benchmarks.timing.opening import opener, subject_inputs

    inputs = subject_inputs(subject, 3, images)
    before = peak_memory()
    runner = opener(subject, threads)()
    for x in inputs:
        runner(x)
    return {"peak_memory_bytes": peak_memory(), "before_model_bytes": before}


def peak_memory() -> int | None:
    """The largest resident size of this process, interpreter and libraries included, in bytes.

    Of the program alone where Linux tells: ``ru_maxrss`` also remembers the process it was forked from.
    """
    with suppress(OSError, StopIteration), Path("/proc/self/status").open(encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
