"""Where the time of a network goes, layer by layer: by the runtime's own profiler, or else counted work.

``python -m lightseg.benchmarks.layers`` is the process that profiles, pinned like every other. Profilers cost time
themselves, so their milliseconds are shares of a slower run and never stand in a table of latencies.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from lightseg.benchmarks.timing.child import Handler, claim_stdout, pin, serve
from lightseg.benchmarks.timing.process import Child, Failed
from lightseg.benchmarks.timing.subject import Subject

if TYPE_CHECKING:
    from numpy.typing import NDArray

COMMAND = (sys.executable, "-m", "lightseg.benchmarks.layers")
SECONDS = 2.0
FEWEST, MOST = 5, 60
"""Profiled runs: at least, whatever time they take, and at most."""
Layer = dict[str, Any]
"""``name``, ``op`` as the format or the runtime calls it, ``kind`` of the counting vocabulary, ``value``, and of times
the ``least`` too, which others on the machine cannot lengthen."""


def layers_of(
    subjects: Iterable[Subject], cores: Sequence[int], images: str | None, announce: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """For every file among ``subjects``, by file name: ``layers`` with the ``unit`` and the ``source`` of their values.

    A file whose layers can be neither profiled nor counted has a ``reason`` instead.
    """
    found = {}
    for subject in subjects:
        if subject.path is not None and (name := Path(subject.path).name) not in found:
            announce(f"layers of {name}")
            found[name] = profiled(subject, cores, images) if _suffix(subject) in PROFILERS else counted(subject)
    return found


def profiled(
    subject: Subject, cores: Sequence[int], images: str | None, child: Callable[..., Child] = Child
) -> dict[str, Any]:
    try:
        with child(1, COMMAND) as process:
            return process.ask("layers", subject=subject.to_dict(), cores=list(cores)[:1], images=images)
    except Failed as error:
        return {"reason": str(error)}


def counted(subject: Subject) -> dict[str, Any]:
    """MACs and bytes per operator, where the runtime has no profiler."""
    from lightseg.benchmarks.profile import COUNTED, count_file
    from lightseg.errors import LightsegError

    if _suffix(subject) not in COUNTED:
        return {"reason": "its runtime has no profiler here, and its operators cannot be counted"}
    try:
        cost = count_file(Path(subject.path or ""))
    except LightsegError as error:
        return {"reason": str(error)}
    layers = [
        {
            "name": one.name,
            "op": one.op,
            "kind": one.kind,
            "value": one.macs,
            "bytes": one.bytes_read + one.bytes_written,
        }
        for one in cost.layers
        if one.kind != "view"
    ]
    return {"unit": "MACs", "source": "counted", "layers": layers}


class Layers:
    """The profiling process's one answer."""

    @property
    def requests(self) -> dict[str, Handler]:
        return {"layers": self.layers}

    def layers(self, request: dict[str, Any]) -> dict[str, Any]:
        pin(request["cores"])
        from lightseg.benchmarks.counting.operators import kind_of
        from lightseg.benchmarks.timing.opening import subject_inputs

        subject = Subject.from_dict(request["subject"])
        profiler, source = PROFILERS[_suffix(subject)]
        runs = profiler(Path(subject.path or ""), subject_inputs(subject, 1, request["images"])[0])
        names = list(dict.fromkeys(key for run in runs for key in run))
        times = {key: [run.get(key, 0.0) for run in runs] for key in names}
        layers = [
            {"name": name, "op": op, "kind": kind_of(op), "value": median(taken), "least": min(taken)}
            for (name, op), taken in times.items()
        ]
        return {"unit": "ms", "source": f"{source}, median of {len(runs)} runs, one thread", "layers": layers}


Profile = dict[tuple[str, str], float]
"""Milliseconds by name and operator, in the order of execution."""


def by_onnxruntime(path: Path, x: NDArray[Any]) -> list[Profile]:
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: _native(x, session.get_inputs()[0].type == "tensor(uint8)")}
        _repeat(lambda: session.run(None, feed))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return from_events(events)


def from_events(events: Iterable[dict[str, Any]]) -> list[Profile]:
    """ONNX Runtime's trace cut into runs, the first left out: it sets buffers up."""
    runs: list[Profile] = []
    for event in sorted((e for e in events if "ts" in e), key=lambda e: e["ts"]):
        if event["name"] == "model_run":
            runs.append({})
        elif event.get("cat") == "Node" and event["name"].endswith("_kernel_time") and runs:
            key = event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]
            runs[-1][key] = runs[-1].get(key, 0.0) + event["dur"] / 1e3
    return runs[1:]


def by_openvino(path: Path, x: NDArray[Any]) -> list[Profile]:
    import openvino as ov

    core = ov.Core()
    asked = {"PERF_COUNT": True, "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    compiled = core.compile_model(core.read_model(str(path / "model.xml")), "CPU", asked)
    request, runs = compiled.create_infer_request(), list[Profile]()
    native = _native(x, compiled.input(0).get_element_type() == ov.Type.u8)

    def once() -> None:
        request.infer({0: native})
        done = [one for one in request.get_profiling_info() if one.status.name == "EXECUTED"]
        runs.append({(one.node_name, one.node_type): one.real_time.total_seconds() * 1e3 for one in done})

    _repeat(once)
    return runs[1:]


PROFILERS: dict[str, tuple[Callable[[Path, NDArray[Any]], list[Profile]], str]] = {
    ".onnx": (by_onnxruntime, "ONNX Runtime's profiler"),
    ".openvino": (by_openvino, "OpenVINO's performance counters"),
}
"""By file name ending. LiteRT's and ncnn's Python packages offer none."""


def _native(x: NDArray[Any], image: bool) -> NDArray[Any]:
    import numpy as np

    return np.ascontiguousarray(x.transpose(0, 2, 3, 1), np.uint8) if image else np.ascontiguousarray(x, np.float32)


def _repeat(once: Callable[[], object]) -> None:
    """The first run is not counted, so there is one more."""
    from time import monotonic

    end, runs = monotonic() + SECONDS, 0
    while runs <= FEWEST or (runs <= MOST and monotonic() < end):
        once()
        runs += 1


def _suffix(subject: Subject) -> str:
    return Path(subject.path or "").suffix


if __name__ == "__main__":
    serve(sys.stdin, claim_stdout(), Layers())
