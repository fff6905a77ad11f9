"""The profile of a model or a file: exact counts, printed per layer, beside what was published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from lightseg.benchmarks.counting.cost import Cost, differences
from lightseg.benchmarks.results.tables import layer_table, total_table

if TYPE_CHECKING:
    from lightseg.export.artifact import Artifact
    from lightseg.spec import ModelSpec

Size = tuple[int, int]
COUNTED = (".onnx", ".tflite", ".openvino", ".ncnn")
"""Endings of the files that `count_file` reads."""


def profile(files: Sequence[Path], names: Sequence[str], size: Size | None, console: Console) -> list[dict[str, Any]]:
    """Print the tables; return the same as data. Errors: those of the counters, `UnknownName`."""
    reports = [_model(name, size, console) for name in names]
    return reports + [_file(path, console) for path in files]


def _model(name: str, size: Size | None, console: Console) -> dict[str, Any]:
    """The architecture is counted; its weights are not needed and not loaded."""
    from lightseg.benchmarks.counting.model import count_model
    from lightseg.zoo import find_spec

    spec = find_spec(name.partition(".")[0])
    height, width = size or spec.input_size
    spec.check_size(height, width)
    cost = count_model(spec.build(), (height, width), name=f"{spec.name} {height}x{width}")
    console.print(layer_table(cost))
    at_published_size = (height, width) == spec.input_size
    console.print(total_table([cost], spec if at_published_size else None))
    return {"counted": cost.to_dict(), "published": _published(spec) if at_published_size else {}}


def _file(path: Path, console: Console) -> dict[str, Any]:
    """Counted from the file; beside it, where its record says which, the model and the graph it was written from."""
    from lightseg.errors import BadInput
    from lightseg.export.artifact import read_artifact

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
