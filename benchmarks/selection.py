"""From what the user named to the subjects that are measured."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from lightseg.benchmarks.peers import PEERS, peer_files, peer_subject
from lightseg.benchmarks.timing.subject import INTERPRETER, TWIN, Subject
from lightseg.benchmarks.timing.ways import EAGER

if TYPE_CHECKING:
    from lightseg.export.pipeline import Request
    from lightseg.export.targets import Target

Size = tuple[int, int]
PLAIN = "plain"
"""What ``--against`` calls the file that the format's general converter makes of the same network."""
ARCHITECTURE_ONLY = "random weights: architecture only"


def eager_subject(name: str, weights: str | None, size: Size | None) -> Subject:
    """A model in PyTorch eager. Errors: those of `create_model`, and `BadInput` for an impossible ``size``."""
    from lightseg.zoo import create_model

    model = create_model(name, weights)
    height, width = size or model.spec.input_size
    model.spec.check_size(height, width)
    return Subject(
        label=model.name,
        runtime=EAGER,
        shape=(1, 3, height, width),
        preprocess=model.weights.preprocess.to_dict(),
        model=name,
        weights=weights,
        note=_note(model.weights.tag),
        labels=model.spec.labels.to_dict(),
        any_batch=True,
    )


def artifact_subjects(paths: Sequence[Path], weights: str | None = None) -> list[Subject]:
    """PyTorch eager and the file itself, for every artifact.

    Where the weights an artifact was made from are not at hand (it came from a file of the user's), ``weights`` names
    them; otherwise the eager row fails alone and the artifact is measured without it.
    Errors: `BadInput` for a missing file, one without a record, or a record of another file.
    """
    from lightseg.export.artifact import Artifact
    from lightseg.export.record import read_artifact

    def eager(artifact: Artifact) -> Subject:
        return Subject(
            label=f"{artifact.model}-{artifact.tag}",
            runtime=EAGER,
            shape=artifact.input_shape,
            preprocess=artifact.preprocess.to_dict(),
            model=artifact.model,
            weights=weights or artifact.tag,
            note=_note(artifact.tag),
            labels=artifact.labels.to_dict(),
            any_batch=True,
        )

    def file(artifact: Artifact) -> Subject:
        return Subject(
            label=f"{artifact.model}-{artifact.tag}" + TWIN * (artifact.writer == "general"),
            runtime=artifact.target,
            shape=artifact.input_shape,
            preprocess=None if artifact.baked else artifact.preprocess.to_dict(),
            path=str(artifact.path.resolve()),
            sha256=artifact.sha256,
            precision=artifact.precision,
            note=_note(artifact.tag),
            labels=artifact.labels.to_dict(),
            output=artifact.output,
            any_batch=artifact.dynamic,
            proof=bool(artifact.golden),
        )

    artifacts = [read_artifact(path) for path in paths]
    return [make(a) for a in artifacts for make in (eager, file)]


def other_side(text: str, announce: Callable[[str], None] = lambda line: None) -> Subject:
    """What ``--against`` names: an artifact, a peer by its name or a foreign TFLite file, or a model in PyTorch eager.

    Errors: those of `artifact_subjects`, `peer_files`, `peer_subject` and `eager_subject`.
    """
    path = peer_files([text], announce)[0] if text in PEERS else Path(text)
    if not path.suffix or not (path.exists() or path.suffix in (".onnx", ".tflite")):
        return eager_subject(text, None, None)
    return peer_subject(path) if is_foreign(path) else artifact_subjects([path])[1]


def plain_twin(subject: Subject, weights: str | None, folder: Path, announce: Callable[[str], None]) -> Subject:
    """The same network in the same format by the format's general converter, written into ``folder`` and proven.

    Errors: those of `lightseg.export.export`, `Unsupported` among them for what that converter cannot write.
    """
    from lightseg.export import export
    from lightseg.export.pipeline import Request
    from lightseg.export.record import read_artifact
    from lightseg.zoo import create_model

    record = read_artifact(Path(subject.path or ""))
    baked = "baked" if record.baked else "none"
    request = Request(record.precision, record.size, record.output, baked, record.dynamic, plain=True)  # type: ignore[arg-type]
    announce(f"exporting {subject.label} to {record.target} by the general converter")
    twin = export(create_model(record.model, weights or record.tag), record.target, folder, request)
    return artifact_subjects([twin.path])[1]


def is_foreign(path: Path) -> bool:
    """A TFLite file that carries no lightseg record and has none beside it."""
    if path.suffix != ".tflite" or not path.is_file() or path.with_name(path.name + ".json").exists():
        return False
    from lightseg.export.targets import target_of

    return target_of(path).read_record(path) is None


def grouped(*lists: Sequence[Subject]) -> list[Subject]:
    """One list: subjects of one label and shape together, those in PyTorch in front and each only once."""
    groups: dict[tuple[str, tuple[int, ...]], list[Subject]] = {}
    for subject in (subject for subjects in lists for subject in subjects):
        group = groups.setdefault((subject.label, subject.shape), [])
        if subject.path is not None or not any(_same(subject, other) for other in group):
            group.append(subject)
    return [s for group in groups.values() for s in sorted(group, key=lambda s: s.path is not None)]


def _same(one: Subject, other: Subject) -> bool:
    """Whether two rows in PyTorch are one, whatever its weights are called."""
    return other.path is None and (one.runtime, one.precision) == (other.runtime, other.precision)


def export_all(
    names: Sequence[str],
    weights: str | None,
    to: str,
    requests: Sequence[Request],
    out: Path,
    announce: Callable[[str], None],
    among: Collection[str] | None = None,
) -> list[Path]:
    """Export every model to every target of ``to`` ("onnx,tflite") into ``out``, and return what can be timed here.

    "all" stands for what this machine can write and run at its own speed, of ``among`` where that is given. Of several
    ``requests`` a target gets those whose precision it has, and dynamic sizes only where it has them.
    Errors: those of `lightseg.export.export`; names, sizes and precisions are checked before any work.
    """
    from lightseg.export import export
    from lightseg.export.reference import Reference
    from lightseg.export.targets import TARGETS, find_target
    from lightseg.zoo import create_model

    able = [t for t in TARGETS.values() if not (t.why_not_convert() or t.why_not_load())]
    able = [t for t in able if among is None or t.name in among]
    targets = able if to == "all" else [find_target(name) for name in to.split(",") if name]
    models = [create_model(name, weights) for name in names]
    wanted = [pair for target in targets for pair in _fitting(target, requests, to == "all" or len(requests) > 1)]
    for model, (target, request) in product(models, wanted):
        request.check(model, target)
    paths = []
    for model in models:
        reference = Reference(model, *requests[0].size(model))
        for target, request in wanted:
            announce(f"exporting {model.name} to {target.name}" + f" in {request.precision}" * (len(requests) > 1))
            artifact = export(model, target.name, out, request, reference)
            interpreted = artifact.parity is not None and artifact.parity["runner"]["runtime"] == INTERPRETER
            if to != "all" or not interpreted:
                paths.append(artifact.path)
    return paths


def _fitting(target: Target, requests: Sequence[Request], choose: bool) -> list[tuple[Target, Request]]:
    """With ``choose`` those whose precision the target has; all where it has none, so that this is an error."""
    kept = [request for request in requests if choose and request.precision in target.precisions] or requests
    return [(target, replace(request, dynamic=request.dynamic and target.dynamic)) for request in kept]


def _note(tag: str) -> str:
    return ARCHITECTURE_ONLY if tag == "random" else ""
