"""Other people's networks, measured in the same run: TFLite files without a lightseg record."""

from __future__ import annotations

from pathlib import Path

from lightseg.benchmarks.subject import Subject
from lightseg.errors import BadInput
from lightseg.files import sha256_of
from lightseg.spec import Preprocess

KNOWN = {
    "selfie_segmentation": "MediaPipe Selfie",
    "selfie_segmentation_landscape": "MediaPipe Selfie landscape",
}
"""File names of networks we can name; any other file is called by its own."""
UNIT = Preprocess("RGB", (0.0, 0.0, 0.0), (255.0, 255.0, 255.0))
"""RGB in 0…1, what MediaPipe's networks take, and assumed of the others: the row says so."""


def peer_subject(path: Path) -> Subject:
    """A foreign TFLite file as a row. Errors: `BadInput` for a missing, damaged or other kind of file."""

    if path.suffix != ".tflite":
        raise BadInput(f"{path} is no .tflite file; a peer must be one")
    shape = input_shape(path)
    known = KNOWN.get(path.stem)
    return Subject(
        label=known or path.stem,
        runtime="tflite (peer)",
        shape=shape,
        preprocess=UNIT.to_dict(),
        path=str(path.resolve()),
        sha256=sha256_of(path),
        precision="",
        note="another network" + ("" if known else "; fed RGB in 0…1, which is assumed"),
    )


def input_shape(path: Path) -> tuple[int, ...]:
    """N×3×H×W of a TFLite file that takes N×H×W×3."""
    from lightseg.benchmarks.counting.tflite_file import parse_tflite

    _, model = parse_tflite(path)
    graph = model.subgraphs[0]
    shape = tuple(int(d) for d in graph.tensors[graph.inputs[0]].shape)
    if len(graph.inputs) != 1 or len(shape) != 4 or shape[3] != 3:
        raise BadInput(f"{path} does not take one N×H×W×3 image but {len(graph.inputs)} inputs, the first {shape}")
    return shape[0], shape[3], shape[1], shape[2]
