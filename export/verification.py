"""verify and load: from a file back to its proof. Nothing here needs PyTorch unless it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightseg.errors import ParityError, Unsupported
from lightseg.export.artifact import Artifact, read_artifact
from lightseg.export.parity import Parity, check_goldens, measure
from lightseg.export.runner import Runner
from lightseg.export.targets import target_of

if TYPE_CHECKING:
    from lightseg.zoo import SegmentationModel


@dataclass(frozen=True)
class Verification:
    """What `verify` found: the repeated goldens, and the full comparison when PyTorch was asked."""

    artifact: Artifact
    runner: dict[str, str]
    goldens: Sequence[dict[str, Any]]
    parity: Parity | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "file": self.artifact.path.name,
            "sha256": self.artifact.sha256,
            "runner": self.runner,
            "goldens": list(self.goldens),
            "parity": self.parity and self.parity.to_dict(),
        }


def verify(path: str | Path, torch: bool = False, weights: str | None = None, threads: int = 1) -> Verification:
    """Repeat an artifact's proof from the file alone; with ``torch`` also against PyTorch, probe by probe.

    ``weights`` names a weights file where the artifact was made from one.

    Errors: `ParityError` with the number and the limit; `BadInput` for a damaged or foreign file; `Unsupported` where
    PyTorch is asked for and not installed.
    """
    artifact = read_artifact(Path(path))
    runner = load(artifact.path, threads)
    goldens = check_goldens(artifact, runner)
    parity = None
    if torch:
        model = model_of(artifact, weights)
        from lightseg.export.reference import Reference

        parity = measure(artifact, runner, Reference(model, *artifact.size))
        parity.check(artifact.path.name)
    return Verification(artifact, runner.details, goldens, parity)


def model_of(artifact: Artifact, weights: str | None = None) -> SegmentationModel:
    """The network an artifact was made from. Errors: `ParityError` where the weights are others."""
    if find_spec("torch") is None:
        raise Unsupported(f"comparing {artifact.path.name} with PyTorch needs it; install it with: pip install torch")
    from lightseg.zoo import create_model

    model = create_model(artifact.model, weights or artifact.tag)
    if model.weights.sha256 != artifact.weights["sha256"]:
        raise ParityError(
            f"{artifact.path.name} was made from other weights than {model.spec.name}.{model.weights.tag} "
            "(sha256 differs): stale; export it again"
        )
    return model


def load(path: str | Path, threads: int = 1) -> Runner:
    """The artifact as something that runs. Errors: `MissingExtra`, `Unsupported`, `BadInput`."""
    target = target_of(Path(path))
    target.require(target.load_needs, "running")
    return target.load(Path(path), threads)
