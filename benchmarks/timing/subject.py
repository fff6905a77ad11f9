"""What can be measured, as plain data that travels to another process or machine. Standard library only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Device = Literal["cpu", "cuda", "browser"]
PEER = " (peer)"
"""How the runtime of other people's networks ends."""
ANOTHER = "another network"
"""Stands in the note of other people's networks."""
TWIN = "-plain"
"""How the label of a network ends that the format's general converter wrote, without our rewrites."""
INTERPRETER = "reference interpreter"
"""What runs a file here whose own runtime exists elsewhere: right about the answer, but its time means nothing."""


@dataclass(frozen=True)
class Subject:
    """One row of a table: an artifact file (``path``), or a model in PyTorch (``model`` and ``weights``).

    Everything the measured process needs is here, so that it looks nothing up; the sidecar is read for its goldens.
    """

    label: str
    """What is measured, without how it runs: "sinet-lightseg"."""
    runtime: str
    """What the table calls the way it runs: "PyTorch eager", "onnx", "tflite"."""
    shape: tuple[int, ...]
    """N×3×H×W of the input."""
    preprocess: dict[str, Any] | None
    """How photographs become inputs; None where the file takes pixel values itself."""
    path: str | None = None
    sha256: str | None = None
    precision: str = "fp32"
    model: str | None = None
    weights: str | None = None
    device: Device = "cpu"
    note: str = ""
    """What a reader must know beside the number, for instance that the weights are random."""
    labels: dict[str, Any] | None = None
    """The classes of the output; None where they are not known, as in other people's files."""
    output: str = "logits"
    any_batch: bool = False
    """Whether it takes batches of any length, and not only ``shape``'s."""
    proof: bool = False
    """Whether there are golden outputs, which must be repeated before anything is timed."""
    goldens: str | None = None
    """The file they are in; None where they travel in the artifact."""
    compiled: bool = False
    """Whether PyTorch's compiler runs the model."""
    graph: bool = False
    """Whether the launches are recorded once as a CUDA graph and replayed."""

    @property
    def name(self) -> str:
        """What an error line calls the row."""
        return f"{self.label}, {self.runtime}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Subject:
        return cls(**{**data, "shape": tuple(data["shape"])})
