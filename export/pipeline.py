"""export: from a model to a proven file."""

from __future__ import annotations

import copy
import json
import platform
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from lightseg.errors import UnknownName, Unsupported
from lightseg.export.answers import MASKS
from lightseg.export.artifact import Artifact, sidecar_text, write_sidecar
from lightseg.export.general import writer_for
from lightseg.export.graph.compose import OUTPUTS, Output, append_head, bake_preprocess
from lightseg.export.graph.shapes import shapes
from lightseg.export.parity import TOLERANCE, check_goldens, limits, measure
from lightseg.export.quantization.plan import Quantised, Wish, check_wish, photographs, quantised
from lightseg.export.quantization.simulation import SimulatedReference
from lightseg.export.quantization.steps import Steps
from lightseg.export.reference import Reference
from lightseg.export.rewrites import for_int8, rewrite
from lightseg.export.targets import Plan, Target, find_target
from lightseg.files import atomic_path, copy_to, sha256_of
from lightseg.zoo import SegmentationModel

PREPROCESS = ("none", "baked")


@dataclass(frozen=True)
class Request:
    """What the user wants exported; checked against the model and the target before any work."""

    precision: str = "fp32"
    input_size: tuple[int, int] | None = None
    output: Output = "logits"
    preprocess: str = "none"
    dynamic: bool = False
    capabilities: tuple[str, ...] | None = None
    """Compute capabilities to compile engines for, or the deployment target; None leaves it to the target."""
    int8: Wish | None = None
    """The photographs int8 is found with."""
    plain: bool = False
    """Through the format's general converter, without our rewrites, to compare with."""

    def check(self, model: SegmentationModel, target: Target) -> None:
        """Errors: those of `check_words`, and `MissingExtra`."""
        self.check_words(model, target)
        check_wish(self.precision, self.output, self.int8)
        target.require(target.convert_needs, "writing")
        target.require(target.load_needs, "proving")

    def check_words(self, model: SegmentationModel, target: Target) -> None:
        """Errors: `UnknownName`, `Unsupported`, `BadInput` for an impossible size."""
        if self.precision not in TOLERANCE:
            raise UnknownName("precision", self.precision, TOLERANCE)
        if self.precision not in target.precisions:
            raise Unsupported(f"{target.name} is written in {', '.join(target.precisions)} only, not {self.precision}")
        if self.output not in OUTPUTS:
            raise UnknownName("output", self.output, OUTPUTS)
        if self.preprocess not in PREPROCESS:
            raise UnknownName("preprocess", self.preprocess, PREPROCESS)
        if self.dynamic and not target.dynamic:
            raise Unsupported(f"{target.name} files have one input size; leave --dynamic or use --to onnx")
        if self.capabilities and not target.capabilities:
            raise Unsupported(f"{target.name} files are not compiled for a GPU; leave --capability")
        model.spec.check_size(*self.size(model))

    def size(self, model: SegmentationModel) -> tuple[int, int]:
        return self.input_size or model.spec.input_size

    def stem(self, model: SegmentationModel) -> str:
        """``<model>-<tag>-<precision>``, and what differs from the default."""
        variants = [
            "x".join(map(str, self.size(model))) if self.size(model) != model.spec.input_size else "",
            self.output if self.output != "logits" else "",
            self.preprocess if self.preprocess != "none" else "",
            "dynamic" if self.dynamic else "",
            "_".join(self.capabilities or ()),
            "plain" if self.plain else "",
        ]
        return "-".join([model.name, self.precision, *filter(None, variants)])


def export(
    model: SegmentationModel,
    to: str,
    out: str | Path = ".",
    request: Request | None = None,
    reference: Reference | None = None,
    **options: Any,
) -> Artifact:
    """Write ``model`` as target ``to`` into the folder ``out``, run the file, and return it with its proof.

    ``options`` are the fields of `Request`: precision, input_size (height, width), output, preprocess, dynamic.
    Pass one `Reference` to several calls to compute PyTorch's answers once.

    Errors: `ParityError` when the file does not equal PyTorch; it is then kept as ``<name>.failed`` and an earlier
    artifact of that name stays. `Unsupported`, `MissingExtra`, `UnknownName`, `BadInput`, `OutputError`.
    """
    request = request or Request(**options)
    target = find_target(to)
    request.check(model, target)
    reference = reference or Reference(model, *request.size(model))
    target, reference, written = writer_for(target, reference, request)
    reference = reference.for_output(request.output)
    plan, changes = make_plan(reference, target, request)
    int8 = None
    if request.int8:
        plan, reference, int8 = in_int8(plan, reference, target, request.int8)
    final = Path(out) / (request.stem(model) + target.suffix)
    draft = replace(describe(model, target, request, plan, changes, reference, final), **written)
    draft = replace(draft, quantization=int8.recorded) if int8 else draft
    with atomic_path(draft.sidecar) as notes, atomic_path(final, target.folder) as temporary:
        target.convert(plan, temporary)
        runner = target.load(temporary, 1)
        parity = measure(draft, runner, reference)
        record = replace(draft, parity=parity.to_dict(), facts=target.facts(temporary))
        if not parity.ok:
            _keep_failed(record, temporary)
            parity.check(f"{final.name} (kept as {final.name}.failed)")
        if int8:
            steps = _steps(int8, temporary, record, reference)
            record = replace(record, quantization=int8.judged(runner, record, steps))
        target.stamp(temporary, json.dumps(record.to_dict(), ensure_ascii=False))
        check_goldens(record, target.load(temporary, 1))
        record = replace(record, sha256=sha256_of(temporary))
        notes.write_text(sidecar_text(record), encoding="utf-8")
        # A kill between the two renames must not leave a sidecar of another file; the record is inside the file too.
        draft.sidecar.unlink(missing_ok=True)
    return record


def _steps(int8: Quantised, temporary: Path, record: Artifact, reference: Reference) -> list[Steps]:
    """Errors: `ParityError` where a value is off its grid; the file is then kept for ``--bisect``."""
    found = int8.steps(temporary, record, reference)
    if not all(steps.ok for steps in found):
        _keep_failed(record, temporary)
    for steps in found:
        steps.check(f"{record.path.name} (kept as {record.path.name}.failed)")
    return found


def _keep_failed(record: Artifact, temporary: Path) -> None:
    """A copy under a name nobody takes for good."""
    failed = replace(record, path=record.path.with_name(record.path.name + ".failed"))
    with atomic_path(failed.path, temporary.is_dir()) as copied:
        copy_to(temporary, copied)
    write_sidecar(replace(failed, sha256=sha256_of(failed.path)))


def make_plan(reference: Reference, target: Target, request: Request) -> tuple[Plan, dict[str, int]]:
    """The rewritten graph with its contract, and how often each rewrite applied."""
    model, (height, width) = reference.model, reference.size
    graph = copy.deepcopy(reference.graph)
    headed = graph if request.int8 is None else copy.deepcopy(graph)  # in int8 the head comes behind the grids
    append_head(headed, model.spec, request.output)
    input_shape = (1, 3, height, width)
    end = next(n for n in headed.graph.nodes if n.op == "output")
    output_shape = shapes(headed, input_shape)[end.args[0]]
    rules = target.rewrites() if request.int8 is None else for_int8(target.rewrites())
    changes = rewrite(graph, rules)
    if request.preprocess == "baked":
        bake_preprocess(graph, model.weights.preprocess)
    plan = Plan(
        graph=graph,
        precision=request.precision,
        input_shape=input_shape,
        output_shape=output_shape,
        output=request.output,
        baked=request.preprocess == "baked",
        dynamic=request.dynamic,
        multiple=model.spec.multiple,
        capabilities=target.capabilities if request.capabilities is None else request.capabilities,
    )
    return plan, changes


def in_int8(plan: Plan, reference: Reference, target: Target, wish: Wish) -> tuple[Plan, Reference, Quantised]:
    """The plan with its convolutions in eight bits, and the reference that answers for them.

    Errors: `BadInput` for the photographs; `ParityError` where no int8 convolution loses as little as is asked.
    """
    assert target.int8 is not None
    found = quantised(plan.graph, photographs(reference, wish), target.int8, plan.baked, wish)
    simulated = SimulatedReference(reference, found.graph, plan.baked)
    headed = copy.deepcopy(found.graph)
    append_head(headed, reference.model.spec, plan.output)  # type: ignore[arg-type]
    return replace(plan, graph=headed), simulated, found


def describe(
    model: SegmentationModel,
    target: Target,
    request: Request,
    plan: Plan,
    changes: dict[str, int],
    reference: Reference,
    path: Path,
) -> Artifact:
    """The artifact's record before it has been run."""
    tolerance = TOLERANCE[request.precision]
    weights = model.weights
    return Artifact(
        path=path,
        model=model.spec.name,
        tag=weights.tag,
        target=target.name,
        precision=request.precision,
        output=request.output,
        baked=plan.baked,
        dynamic=request.dynamic,
        input_shape=plan.input_shape,
        output_shape=plan.output_shape,
        layout={
            "input": target.image_input if plan.baked else f"{target.layout} float32",
            "output": f"{target.layout} {target.mask_element if request.output in MASKS else 'float32'}",
        },
        preprocess=weights.preprocess,
        labels=model.spec.labels,
        multiple=model.spec.multiple,
        weights={k: getattr(weights, k) for k in ("tag", "sha256", "licence", "origin")},
        tolerance=dict(tolerance),
        versions=versions(target),
        changes=changes,
        differs=dict(reference.differs),
        golden=reference.goldens(limits(tolerance, reference.distances(request.precision))),
    )


def versions(target: Target) -> dict[str, str]:
    """The packages that took part."""
    modules = dict.fromkeys(("lightseg", "torch", "numpy", *target.convert_needs, *target.load_needs))
    return {"python": platform.python_version()} | {m: _version(m) for m in modules}


def _version(module: str) -> str:
    try:
        return metadata.version(module.replace("_", "-"))
    except metadata.PackageNotFoundError:
        return "unknown"


def matrix() -> list[dict[str, str | None]]:
    """What this machine can convert and run, with the reasons where it cannot."""
    from lightseg.export.targets import TARGETS

    return [
        {
            "target": t.name,
            "precisions": ", ".join(t.precisions),
            "dynamic": "yes" if t.dynamic else "no",
            "convert": t.why_not_convert(),
            "run": t.why_not_load(),
        }
        for t in TARGETS.values()
    ]
