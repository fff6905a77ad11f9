"""Other people's networks, measured in the same run: TFLite files without a lightseg record, by path or by name."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightseg.benchmarks.architectures import ARCHITECTURES
from lightseg.benchmarks.timing.subject import ANOTHER, Subject
from lightseg.errors import BadInput, UnknownName, Unsupported
from lightseg.files import atomic_path, sha256_of
from lightseg.spec import PORTRAIT, Preprocess
from lightseg.weights import cache_dir

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]

WHEEL = ("mediapipe==0.10.21", "manylinux_2_28_x86_64", "3.11")
"""The package, platform and Python of the wheel that holds the files; they are the same in all of its wheels."""
INSIDE = "mediapipe/modules/selfie_segmentation/"
UNIT = Preprocess("RGB", (0.0, 0.0, 0.0), (255.0, 255.0, 255.0))
"""RGB in 0…1, what MediaPipe's networks take, and assumed of the others: the row says so."""


@dataclass(frozen=True)
class Peer:
    """A network that has a name here: its file in the wheel, what tables call it, and what its file hashes to."""

    file: str
    label: str
    sha256: str


PEERS = {
    "selfie": Peer(
        "selfie_segmentation.tflite",
        "MediaPipe Selfie",
        "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
    ),
    "selfie_landscape": Peer(
        "selfie_segmentation_landscape.tflite",
        "MediaPipe Selfie landscape",
        "a77d03f4659b9f6b6c1f5106947bf40e99d7655094b6527f214ea7d451106edd",
    ),
}


def peer_files(names: Sequence[str], announce: Callable[[str], None]) -> list[Path]:
    """The .tflite files that ``names`` stand for: paths, or keys of `PEERS`.

    A named file is looked for in the user's cache and in an installed mediapipe, and else taken out of its wheel,
    which pip downloads (36 MB) without installing it. Errors: `UnknownName`, `Unsupported`.
    """
    return [_named(name, announce) if not name.endswith(".tflite") else Path(name) for name in names]


def check_name(name: str) -> None:
    """Errors: `UnknownName` for what is neither a key of `PEERS` nor a .tflite file's."""
    if name not in PEERS and not name.endswith(".tflite"):
        raise UnknownName("peer", name, [*PEERS, *ARCHITECTURES])


def _named(name: str, announce: Callable[[str], None]) -> Path:
    check_name(name)
    peer = PEERS[name]
    cached = cache_dir() / "peers" / peer.file
    for path in (cached, _installed(peer)):
        if path is not None and path.is_file() and sha256_of(path) == peer.sha256:
            return path
    announce(f"taking {peer.file} out of {WHEEL[0]}'s wheel (36 MB, once)")
    data = _from_wheel(peer.file)
    with atomic_path(cached) as temporary:
        temporary.write_bytes(data)
    if sha256_of(cached) != peer.sha256:
        cached.unlink()
        raise Unsupported(f"{peer.file} in {WHEEL[0]} is not the file it was (sha256 differs); name a .tflite file")
    return cached


def _installed(peer: Peer) -> Path | None:
    """The file in an installed mediapipe, which is not imported for it."""
    spec = find_spec("mediapipe")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return Path(folders[0]).parent / INSIDE / peer.file if folders else None


def _from_wheel(file: str) -> bytes:
    package, platform, python = WHEEL
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", folder]
        command += ["--platform", platform, "--python-version", python, package]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise Unsupported(f"pip cannot get {package} ({said}); get it elsewhere and name its {file}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            return wheel.read(INSIDE + file)


def peer_subject(path: Path) -> Subject:
    """A foreign TFLite file as a row. Errors: `BadInput` for a missing, damaged or other kind of file."""

    if path.suffix != ".tflite":
        raise BadInput(f"{path} is no .tflite file; a peer must be one")
    shape = input_shape(path)
    known = known_as(path)
    return Subject(
        label=known.label if known else path.stem,
        runtime="tflite (peer)",
        shape=shape,
        preprocess=UNIT.to_dict(),
        path=str(path.resolve()),
        sha256=sha256_of(path),
        precision="",
        labels=PORTRAIT.to_dict() if known else None,
        output="probability" if known else "",
        note=ANOTHER + ("" if known else "; fed RGB in 0…1, which is assumed"),
    )


def known_as(path: Path) -> Peer | None:
    """The peer a file is by its name."""
    return next((peer for peer in PEERS.values() if peer.file == path.name), None)


def as_logits(run: Run) -> Run:
    """The chance of class 1, which a peer answers with, as its log-odds: the logit that a single channel stands for."""

    def logits(x: NDArray[np.float32]) -> NDArray[np.float32]:
        chance = np.clip(run(x).astype(np.float64), 1e-6, 1 - 1e-6)
        return np.log(chance / (1 - chance)).astype(np.float32)

    return logits


def input_shape(path: Path) -> tuple[int, ...]:
    """N×3×H×W of a TFLite file that takes N×H×W×3."""
    from lightseg.benchmarks.counting.tflite_file import parse_tflite

    _, model = parse_tflite(path)
    graph = model.subgraphs[0]
    shape = tuple(int(d) for d in graph.tensors[graph.inputs[0]].shape)
    if len(graph.inputs) != 1 or len(shape) != 4 or shape[3] != 3:
        raise BadInput(f"{path} does not take one N×H×W×3 image but {len(graph.inputs)} inputs, the first {shape}")
    return shape[0], shape[3], shape[1], shape[2]
