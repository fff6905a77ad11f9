"""The measured process (``python -m lightseg.benchmarks.timing.child``): JSON requests in, answers out, line by line.

It is started fresh for every row, pins itself before it imports anything that computes, and does nothing between
requests but wait, so that several of them can take turns on one core. Whatever libraries print goes to standard
error; standard output carries answers only, so the same protocol works through a pipe, ssh or adb.

Requests (the key ``do``), each answered by an object with its results or with ``error``:

describe       say what machine this is and which cores are quiet
open           pin to ``cores``, make ``subject`` ready with ``threads``, prepare the inputs, time the loads and the
               first run
goldens        repeat the golden outputs the artifact carries
warm_up        run until window medians settle or the time is over
sample         time runs, rotating the inputs (or repeating one), auditing some outputs
image_to_mask  time whole photographs to whole masks
transfer       time the copies to a device with a memory of its own, and back
energy         read an energy counter around runs
close          end
memory         in a process of its own, in place of all the others: how much memory the first runs need at most
"""

from __future__ import annotations

import array
import gc
import json
import os
import random
import sys
from collections.abc import Callable, Iterable
from time import perf_counter_ns, process_time_ns
from typing import IO, TYPE_CHECKING, Any, Protocol

from lightseg.benchmarks.timing import latency
from lightseg.benchmarks.timing.environment import (
    available_cores,
    core_times,
    environment,
    load_average,
    quiet_cores,
    temperature,
)
from lightseg.benchmarks.timing.subject import Subject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightseg.export.runner import Runner

REFERENCES = 4
"""Inputs whose first output is kept to audit later ones; all of them would fill the memory of the larger networks."""


Handler = Callable[[dict[str, Any]], dict[str, Any]]


class Answers(Protocol):
    """Something with an answer to each kind of request, by the request's key ``do``."""

    @property
    def requests(self) -> dict[str, Handler]: ...


class Session:
    """The state between requests: one subject made ready, its inputs and its reference outputs."""

    runner: Runner
    subject: Subject
    images: str | None
    cores: list[int]
    inputs: list[NDArray[Any]]
    references: list[NDArray[Any]]
    protocol: latency.Protocol

    @property
    def requests(self) -> dict[str, Handler]:
        named = (self.describe, self.open, self.goldens, self.warm_up, self.sample, self.image_to_mask)
        return {do.__name__: do for do in (*named, self.transfer, self.energy, self.memory, self.close)}

    def describe(self, request: dict[str, Any]) -> dict[str, Any]:
        cores = request.get("cores") or quiet_cores(request["threads"])
        return {"cores": cores, "available": available_cores(), "environment": environment(cores)}

    def open(self, request: dict[str, Any]) -> dict[str, Any]:
        self.cores, self.images = request["cores"], request.get("images")
        pinned = pin(self.cores)
        self.protocol = latency.Protocol(**request["protocol"])
        self.subject = subject = Subject.from_dict(request["subject"])
        begin = perf_counter_ns()
        from lightseg.benchmarks.timing.opening import opener, subject_inputs  # here, to be pinned and timed

        make = opener(subject, request["threads"])
        make()
        cold = perf_counter_ns() - begin
        begin = perf_counter_ns()
        self.runner = runner = make()
        load = perf_counter_ns() - begin
        self.inputs = subject_inputs(subject, self.protocol.inputs, self.images)
        first = self._timed(0)
        self.references = [runner(x).copy() for x in self.inputs[:REFERENCES]]
        return {
            "import_and_load_ns": cold,
            "load_ns": load,
            "first_ns": first,
            "affinity": pinned,
            "inputs": len(self.inputs),
            "output_shape": list(self.references[0].shape),
            "runtime": runner.name,
            "details": dict(runner.details),
        }

    def goldens(self, request: dict[str, Any]) -> dict[str, Any]:
        """``wrong`` says in one line why the answers are not those of PyTorch; empty when they are."""
        from lightseg.benchmarks.timing.proofs import repeat

        return repeat(self.subject, self.runner)

    def warm_up(self, request: dict[str, Any]) -> dict[str, Any]:
        protocol, runs = self.protocol, 0
        medians: list[float] = []
        end = perf_counter_ns() + int(protocol.warmup_seconds * 1e9)
        while not latency.is_settled(medians, protocol.settled) and perf_counter_ns() < end:
            window: list[int] = []
            begin = perf_counter_ns()
            while len(window) < protocol.window_samples or perf_counter_ns() - begin < protocol.window_seconds * 1e9:
                window.append(self._timed(runs))
                runs += 1
            medians.append(sorted(window)[len(window) // 2])
        return {"settled": latency.is_settled(medians, protocol.settled), "runs": runs, "window_medians_ns": medians}

    def sample(self, request: dict[str, Any]) -> dict[str, Any]:
        count, duration, rotate = request["samples"], int(request["seconds"] * 1e9), request.get("rotate", True)
        samples, cpu, device = array.array("q"), array.array("q"), array.array("q")
        runner, inputs = self.runner, self.inputs
        share = self.protocol.audits / count * len(inputs) / len(self.references)
        audit = Audit(self.references, random.Random(request.get("seed", 0)), share)
        on_device: Callable[[], int] | None = getattr(runner, "device_ns", None)
        gc.collect()
        gc.disable()
        state: Callable[[], Any] = getattr(runner, "state", dict) if request.get("watch") else dict
        load, temperatures, stolen = load_average(), temperature(), stolen_from(self.cores)
        states = [state()]
        before = usage()
        begin, step = perf_counter_ns(), 0
        while step < count or perf_counter_ns() - begin < duration:
            index = step % len(inputs) if rotate else 0
            runner.feed(inputs[index])
            busy, start = process_time_ns(), perf_counter_ns()
            runner.run()
            samples.append(perf_counter_ns() - start)
            cpu.append(process_time_ns() - busy)
            if on_device is not None:
                device.append(on_device())
            audit.maybe(index, runner.fetch)
            step += 1
        wall = perf_counter_ns() - begin
        gc.enable()
        states.append(state())
        audit.now((step - 1) % len(inputs) if rotate else 0, runner.fetch)
        spent = {name: value - before[name] for name, value in usage().items()}
        return {
            "samples_ns": list(samples),
            "cpu_samples_ns": list(cpu),
            "device_ns": list(device),
            "wall_ns": wall,
            **spent,
            "load_average": [load, load_average()],
            "temperature": [temperatures, temperature()],
            "device_states": states,
            "stolen_jiffies": taken(stolen, stolen_from(self.cores)),
            "audit": audit.result(),
        }

    def image_to_mask(self, request: dict[str, Any]) -> dict[str, Any]:
        from lightseg.benchmarks.timing.passes import time_masks

        return time_masks(self.runner, self.subject, self.images, request["seconds"])

    def transfer(self, request: dict[str, Any]) -> dict[str, Any]:
        from lightseg.benchmarks.timing.passes import time_transfers

        return time_transfers(self.runner, self.subject, self.inputs, request["seconds"])

    def energy(self, request: dict[str, Any]) -> dict[str, Any]:
        from lightseg.benchmarks.timing.energy import UNSEEN, measure_energy

        if self.subject.device == "cuda":
            return {"reason": UNSEEN}
        return measure_energy(self.runner, self.inputs, request["seconds"])

    def memory(self, request: dict[str, Any]) -> dict[str, Any]:
        from lightseg.benchmarks.timing.passes import peak_of

        pin(request["cores"])
        return peak_of(Subject.from_dict(request["subject"]), request["threads"], request.get("images"))

    def close(self, request: dict[str, Any]) -> dict[str, Any]:
        return {}

    def _timed(self, step: int) -> int:
        runner = self.runner
        runner.feed(self.inputs[step % len(self.inputs)])
        begin = perf_counter_ns()
        runner.run()
        return perf_counter_ns() - begin


class Audit:
    """Compares the outputs of randomly chosen timed iterations with what the same input gave before timing."""

    def __init__(self, references: list[NDArray[Any]], chance: random.Random, share: float) -> None:
        self.references, self.chance = references, chance
        self.share, self.checked, self.worst = share, 0, 0.0

    def maybe(self, index: int, fetch: Callable[[], NDArray[Any]]) -> None:
        if index < len(self.references) and self.chance.random() < self.share:
            self.now(index, fetch)

    def now(self, index: int, fetch: Callable[[], NDArray[Any]]) -> None:
        if index < len(self.references):
            self.checked += 1
            self.worst = max(self.worst, relative_error(fetch(), self.references[index]))

    def result(self) -> dict[str, Any]:
        """``distinct``: different images gave different outputs, so the runtime does read its input."""
        import numpy as np

        first = self.references[0]
        distinct = all(not np.array_equal(first, other) for other in self.references[1:])
        return {"checked": self.checked, "worst": self.worst, "distinct": distinct}


def relative_error(value: NDArray[Any], reference: NDArray[Any]) -> float:
    """max|Δ|/max|reference|; infinite where a value is not a number."""
    import numpy as np

    scale = float(np.max(np.abs(reference.astype(np.float64)))) or 1.0
    error = float(np.max(np.abs(value.astype(np.float64) - reference))) / scale
    return error if np.isfinite(error) else float("inf")


def pin(cores: list[int]) -> list[int] | str:
    """Bind this process, and every thread it will start, to ``cores``; say so where the system cannot."""
    if not hasattr(os, "sched_setaffinity"):
        return "not available on this system"
    os.sched_setaffinity(0, cores)
    return sorted(os.sched_getaffinity(0))


def usage() -> dict[str, int]:
    """Processor time and involuntary context switches of this process so far."""
    try:
        import resource
    except ImportError:
        return {"cpu_ns": process_time_ns()}
    switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    return {"cpu_ns": process_time_ns(), "involuntary_switches": switches}


def stolen_from(cores: Iterable[int]) -> list[int] | None:
    """Jiffies the hypervisor has taken from each of ``cores`` since boot; None where that cannot be read."""
    times = core_times()
    return [times[core][1] for core in cores] if times.keys() >= set(cores) else None


def taken(before: list[int] | None, after: list[int] | None) -> int | None:
    return None if before is None or after is None else sum(after) - sum(before)


def answer(session: Answers, line: str) -> dict[str, Any]:
    """The answer to one request; any exception becomes its ``error`` line."""
    from lightseg.errors import LightsegError

    try:
        request = json.loads(line)
        return session.requests[request["do"]](request)
    except LightsegError as error:
        return {"error": str(error)}
    except Exception as error:  # whatever a runtime raises, the parent must hear it in one line
        return {"error": " ".join(f"{type(error).__name__}: {error}".split())}


def claim_stdout() -> IO[str]:
    """The real standard output for answers; everything else that is printed goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def serve(requests: IO[str], answers: IO[str], session: Answers | None = None) -> None:
    session = session or Session()
    for line in requests:
        answers.write(json.dumps(answer(session, line)) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin, claim_stdout())
