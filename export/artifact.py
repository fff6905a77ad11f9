"""An exported file and everything a stranger needs to use and to check it."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightseg.errors import BadInput
from lightseg.files import atomic_path, sha256_of
from lightseg.spec import RAW, Labels, Preprocess

FORMAT = 1
METADATA_NAME = "lightseg"


@dataclass(frozen=True)
class Golden:
    """One input with the answer PyTorch gave for it, small enough to travel inside the artifact.

    ``image`` is H×W×3 uint8 RGB at the input size; ``samples`` are the reference outputs on every ``stride``-th row
    and column, C×h×w float32; ``mask`` is the whole class map, H'×W' uint8.
    """

    probe: str
    image: NDArray[np.uint8]
    samples: NDArray[np.float32]
    stride: int
    mask: NDArray[np.uint8]
    ties: int
    """Pixels whose class an error within the tolerance may change."""
    largest: float
    """The largest error allowed, as a share of the largest sample."""
    mean: float
    """The mean error allowed, likewise."""

    def to_dict(self) -> dict[str, Any]:
        arrays = {k: _packed(getattr(self, k)) for k in ("image", "samples", "mask")}
        plain = {k: getattr(self, k) for k in ("probe", "stride", "ties", "largest", "mean")}
        return {**plain, **arrays}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Golden:
        arrays = {k: _unpacked(data[k]) for k in ("image", "samples", "mask")}
        plain = {k: data[k] for k in ("probe", "stride", "ties", "largest", "mean")}
        return cls(**plain | arrays)


def _packed(array: NDArray[Any]) -> dict[str, Any]:
    """Images and maps are stored as horizontal differences, which compress several times better than the values."""
    stored = np.diff(array, axis=1, prepend=np.zeros_like(array[:, :1])) if array.dtype == np.uint8 else array
    data = base64.b64encode(zlib.compress(np.ascontiguousarray(stored).tobytes(), 9)).decode()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "zlib": data}


def _unpacked(packed: dict[str, Any]) -> NDArray[Any]:
    raw = np.frombuffer(zlib.decompress(base64.b64decode(packed["zlib"])), packed["dtype"]).reshape(packed["shape"])
    return np.cumsum(raw, axis=1, dtype=np.uint8) if raw.dtype == np.uint8 else raw


@dataclass(frozen=True)
class Artifact:
    """The facts of one exported file. ``path`` is the file; the sidecar is ``path`` + ``.json``."""

    path: Path
    model: str
    tag: str
    target: str
    precision: str
    output: str
    """``logits``, ``probability`` or ``mask``."""
    baked: bool
    """True when the file takes N×H×W×3 uint8 RGB images and normalises them itself."""
    dynamic: bool
    input_shape: tuple[int, ...]
    """N×3×H×W, whatever the layout in the file; the size the file was proven at."""
    output_shape: tuple[int, ...]
    layout: dict[str, str]
    """Layout and element type of the file's own input and output."""
    preprocess: Preprocess
    labels: Labels
    multiple: int
    """Height and width a dynamic file takes are multiples of this."""
    weights: dict[str, str]
    """Tag, sha256, licence and origin of the weights."""
    tolerance: dict[str, float]
    versions: dict[str, str] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)
    """How often each exact rewrite was applied."""
    writer: str = "direct"
    """``general``: the format's general converter wrote it, asked to or as our writers do not know the network."""
    outside: str = ""
    """What of it they do not know; empty for nothing."""
    differs: dict[str, float] = field(default_factory=dict)
    """Of an output that is not exact by design, ``mask_coarse``: by probe, the share of pixels with another class."""
    quantization: dict[str, Any] | None = None
    """Of int8: how many layers are, which are not, what calibrated it, and what it loses."""
    golden: tuple[Golden, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    """What writing the file has shown, in the target's own words: engines compiled, layers listed."""
    parity: dict[str, Any] | None = None
    sha256: str = ""

    @property
    def sidecar(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    @property
    def size(self) -> tuple[int, int]:
        return self.input_shape[2], self.input_shape[3]

    @property
    def feeds(self) -> Preprocess:
        """What the caller has to do to the pixels: nothing where the preprocessing is inside."""
        return RAW if self.baked else self.preprocess

    def to_dict(self) -> dict[str, Any]:
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("path", "golden")}
        plain |= {"preprocess": self.preprocess.to_dict(), "labels": self.labels.to_dict()}
        return {"format": FORMAT, "file": self.path.name, **plain, "golden": [g.to_dict() for g in self.golden]}

    @classmethod
    def from_dict(cls, path: Path, data: dict[str, Any]) -> Artifact:
        if not isinstance(data, dict):
            raise TypeError("no table of facts")
        if data.get("format") != FORMAT:
            raise BadInput(
                f"{path}: the record has format {data.get('format')!r}, this version reads {FORMAT}; export again"
            )
        known = {f.name: data[f.name] for f in fields(cls) if f.name in data}
        known |= {
            "path": path,
            "preprocess": Preprocess.from_dict(data["preprocess"]),
            "labels": Labels.from_dict(data["labels"]),
            "golden": tuple(Golden.from_dict(g) for g in data["golden"]),
            "input_shape": tuple(data["input_shape"]),
            "output_shape": tuple(data["output_shape"]),
        }
        return cls(**known)


def sidecar_text(artifact: Artifact) -> str:
    return json.dumps(artifact.to_dict(), indent=1, ensure_ascii=False) + "\n"


def write_sidecar(artifact: Artifact) -> None:
    with atomic_path(artifact.sidecar) as temporary:
        temporary.write_text(sidecar_text(artifact), encoding="utf-8")


def read_artifact(path: Path) -> Artifact:
    """The record beside ``path``; where there is none, the one inside the file.

    Errors: `BadInput` when the file is missing, has no record, or is not the file the sidecar describes.
    """
    from lightseg.export.targets import target_of

    path = Path(path)
    if not path.exists():
        raise BadInput(f"no artifact {path}; make one with: lightseg-export --model sinet --to tflite")
    target = target_of(path)
    if path.is_dir() != target.folder:
        kind = "folder" if target.folder else "file"
        raise BadInput(f"{path} is not a {kind}, which {target.name} artifacts are; export it again")
    sidecar = path.with_name(path.name + ".json")
    text = sidecar.read_bytes() if sidecar.is_file() else target.read_record(path)
    if text is None:
        raise BadInput(
            f"{path} has no lightseg record, neither beside it nor inside; export it again with lightseg-export"
        )
    try:
        artifact = Artifact.from_dict(path, json.loads(text))
    except (ValueError, KeyError, TypeError, zlib.error) as error:
        raise BadInput(f"the record of {path} is damaged ({type(error).__name__}: {error}); export it again") from error
    if artifact.sha256 and artifact.sha256 != sha256_of(path):
        raise BadInput(f"{path} is not the file its sidecar {sidecar.name} describes (sha256 differs); export it again")
    return artifact
