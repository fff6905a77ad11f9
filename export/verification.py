"""verify and load: from a file back to its proof. Nothing here needs PyTorch unless it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightseg.errors import MissingExtra, ParityError, UnknownName, Unsupported
from lightseg.export.artifact import Artifact
from lightseg.export.parity import Parity, check_goldens, measure
from lightseg.export.record import read_artifact
from lightseg.export.runner import Runner
from lightseg.export.targets import target_of

if TYPE_CHECKING:
    from lightseg.export.stability import Stability
    from lightseg.zoo import SegmentationModel


@dataclass(frozen=True)
class Verification:
    """What `verify` found: the repeated goldens, and the comparisons with PyTorch that were asked for."""

    artifact: Artifact
    runner: dict[str, str]
    goldens: Sequence[dict[str, Any]]
    parity: Parity | None
    decisions: Stability | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "file": self.artifact.path.name,
            "sha256": self.artifact.sha256,
            "runner": self.runner,
            "goldens": list(self.goldens),
            "parity": self.parity and self.parity.to_dict(),
            "decisions": self.decisions and self.decisions.to_dict(),
        }


def verify(
    path: str | Path,
    torch: bool = False,
    weights: str | None = None,
    threads: int = 1,
    runtime: str | None = None,
    images: str | Path | None = None,
    limit: int | None = None,
) -> Verification:
    """Repeat an artifact's proof from the file alone; with ``torch`` also against PyTorch, probe by probe.

    ``weights`` names a weights file where the artifact was made from one, ``runtime`` a second runtime of the format
    (see `load`). ``images``, a folder, has the decisions on at most ``limit`` photographs compared with PyTorch's too.

    Errors: `ParityError` with the number and the limit; `BadInput` for a damaged or foreign file; `Unsupported` where
    PyTorch is asked for and not installed.
    """
    artifact = read_artifact(Path(path))
    if torch:
        check_comparable(artifact)
    runner = load(artifact.path, threads, runtime)
    goldens = check_goldens(artifact, runner)
    parity = None
    if torch:
        model = model_of(artifact, weights)
        from lightseg.export.reference import Reference

        parity = measure(artifact, runner, Reference(model, *artifact.size))
        parity.check(artifact.path.name)
    decided = None
    if images is not None:
        decided = _decisions(artifact, runner, weights, Path(images), limit)
        decided.check(artifact.path.name)
    return Verification(artifact, runner.details, goldens, parity, decided)


def _decisions(artifact: Artifact, runner: Runner, weights: str | None, folder: Path, limit: int | None) -> Stability:
    from lightseg.export.runner import torch_runner
    from lightseg.export.stability import images_in, stability

    model = model_of(artifact, weights)
    return stability(artifact, runner, torch_runner(model, double=True), images_in(folder, limit))


def check_comparable(artifact: Artifact) -> None:
    """Errors: `Unsupported` for int8, whose values are not PyTorch's."""
    if artifact.quantization:
        raise Unsupported(
            f"{artifact.path.name} is int8 and equals no network of PyTorch's but the simulation of its grids: "
            "lightseg-verify FILE --bisect compares it with that, value by value; lightseg-verify alone repeats its "
            "golden outputs, lightseg-evaluate scores it"
        )


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


def load(path: str | Path, threads: int = 1, runtime: str | None = None) -> Runner:
    """The artifact as something that runs, in the target's own runtime or another one: ``tensorflow`` for TFLite.

    Errors: `MissingExtra`, `Unsupported` where the format has no other runtime, `UnknownName`, `BadInput`.
    """
    path = Path(path)
    target = target_of(path)
    if runtime is None:
        target.require(target.load_needs, "running")
        return target.load(path, threads)
    if not target.second_opinions:
        raise Unsupported(f"{path.name} has one runtime; leave out --runtime {runtime}")
    if runtime not in target.second_opinions:
        raise UnknownName(f"runtime of {target.name} files", runtime, target.second_opinions)
    other = target.second_opinions[runtime]
    for module in other.needs:
        if find_spec(module) is None:
            raise MissingExtra(f"running {target.name} in {runtime}", other.extra, module)
    return other.load(path, threads)
