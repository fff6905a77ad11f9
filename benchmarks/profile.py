"""The profile of a model or a file: exact counts, printed per layer, beside what was published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from lightseg.benchmarks.counting.cost import Cost, differences
from lightseg.benchmarks.results.tables import layer_table, total_table
from lightseg.benchmarks.roofline import conclusions, roofline, roofline_table

if TYPE_CHECKING:
    from lightseg.export.artifact import Artifact
    from lightseg.spec import ModelSpec

Size = tuple[int, int]
COUNTED = (".onnx", ".tflite", ".openvino", ".ncnn")
"""Endings of the files that `count_file` reads."""


def profile(
    files: Sequence[Path], names: Sequence[str], size: Size | None, console: Console, cores: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Print the tables; return the same as data. Errors: those of the counters, `UnknownName`.

    With ``cores`` the machine's ceilings are measured on the first of them, and every network set against them.
    """
    reports = [_model(name, size, console) for name in names] + [_file(path, console) for path in files]
    if cores is None:
        return reports
    from lightseg.benchmarks.ceilings import measure_ceilings

    ceilings = measure_ceilings(list(cores))
    costs = [model_cost(name, size) for name in names] + [count_file(path) for path in files]
    times: list[dict[str, Any]] = [{}] * len(names) + [_timed(path, cores) for path in files]
    for report, cost, timed in zip(reports, costs, times):
        found = roofline(cost, ceilings, timed)
        console.print(roofline_table(found))
        for line in conclusions(found):
            console.print(line, highlight=False, markup=False)
        report["roofline"] = found.to_dict()
    return reports


def _timed(path: Path, cores: Sequence[int]) -> dict[str, Any]:
    """The runtime's own profile of a file, or the reason there is none."""
    from lightseg.benchmarks.layers import PROFILERS, profiled
    from lightseg.benchmarks.selection import artifact_subjects
    from lightseg.errors import BadInput

    if path.suffix not in PROFILERS:
        return {"reason": f"nothing, as the runtime of {path.suffix} files has no profiler here"}
    try:
        subjects = artifact_subjects([path])
    except BadInput as error:  # foreign files have no record to make an input from
        return {"reason": f"nothing: {error}"}
    return profiled(next(one for one in subjects if one.path is not None), cores, None)


def _model(name: str, size: Size | None, console: Console) -> dict[str, Any]:
    """The architecture is counted; its weights are not needed and not loaded."""
    from lightseg.zoo import find_spec

    spec, cost = find_spec(name.partition(".")[0]), model_cost(name, size)
    console.print(layer_table(cost))
    at_published_size = size in (None, spec.input_size)
    console.print(total_table([cost], spec if at_published_size else None))
    return {"counted": cost.to_dict(), "published": _published(spec) if at_published_size else {}}


def model_cost(name: str, size: Size | None) -> Cost:
    """Counted in PyTorch, at the published size unless another is given. Errors: `UnknownName`, `BadInput`."""
    from lightseg.benchmarks.counting.model import count_model
    from lightseg.zoo import find_spec

    spec = find_spec(name.partition(".")[0])
    height, width = size or spec.input_size
    spec.check_size(height, width)
    return count_model(spec.build(), (height, width), name=f"{spec.name} {height}x{width}")


def _file(path: Path, console: Console) -> dict[str, Any]:
    """Counted from the file; beside it, where its record says which, the model and the graph it was written from."""
    from lightseg.errors import BadInput
    from lightseg.export.record import read_artifact

    cost = count_file(path)
    console.print(layer_table(cost))
    try:
        artifact = read_artifact(path)
    except BadInput as error:  # foreign files are welcome here: counting needs no record
        console.print(total_table([cost], None))
        return {"counted": cost.to_dict(), "compared": str(error)}
    model, graph = _origins(artifact)
    console.print(total_table([model, graph, cost], None))
    found = differences(graph, cost)
    verdict = "the file agrees with the rewritten graph" if not found else "; ".join(found)
    applied = ", ".join(f"{name} {times}" for name, times in artifact.changes.items() if times)
    console.print(f"{verdict}; rewrites applied: {applied or 'none'}", highlight=False)
    counted = {"counted": cost.to_dict(), "model": model.to_dict(), "graph": graph.to_dict()}
    return {**counted, "differences": list(found), "rewrites": artifact.changes}


def _origins(artifact: Artifact) -> tuple[Cost, Cost]:
    """The cost of the artifact's model in PyTorch, and of the graph the artifact was written from."""
    from lightseg.benchmarks.counting.model import count_model
    from lightseg.benchmarks.rewritten import count_rewritten
    from lightseg.zoo import find_spec

    spec = find_spec(artifact.model)
    model = count_model(spec.build(), artifact.size, artifact.input_shape[0], f"{spec.name} in PyTorch")
    return model, count_rewritten(artifact)


def count_file(path: Path) -> Cost:
    """Counts from a file or a folder, by its ending. Errors: `BadInput` for any other, and those of the counters."""
    from lightseg.errors import BadInput

    if path.suffix == ".onnx":
        from lightseg.benchmarks.counting.onnx_file import count_onnx

        return count_onnx(path)
    if path.suffix == ".tflite":
        from lightseg.benchmarks.counting.tflite_file import count_tflite

        return count_tflite(path)
    if path.suffix == ".openvino":
        from lightseg.benchmarks.counting.openvino_file import count_openvino

        return count_openvino(path)
    if path.suffix == ".ncnn":
        from lightseg.benchmarks.counting.ncnn_file import count_ncnn

        return count_ncnn(path)
    raise BadInput(f"{path} cannot be counted; give one of {', '.join(COUNTED)}, or a model with --model")


def _published(spec: ModelSpec) -> dict[str, Any]:
    return {name: vars(figure) for name, figure in spec.published.items()}
