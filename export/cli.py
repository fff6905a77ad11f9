"""lightseg-export: a model as a file that is proven equal to PyTorch."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from lightseg.cli import add_json, add_model, command, emit_json, model_names, refuse_unheeded, run, say, size

EXAMPLES = """\
  lightseg-export --model sinet --to tflite
  lightseg-export --model sinet.clova,extremec3net --to onnx,tflite --out artifacts
  lightseg-export --model sinet --to tflite --preprocess baked --output mask     uint8 photo in, mask out
  lightseg-export --model c3net --to onnx --dynamic
  lightseg-export --model sinet --to coreml --precision fp16                     an .mlpackage, proven without a Mac
  lightseg-export --model sinet --to coreml --deployment-target iOS17            for newer systems only
  lightseg-export --model sinet --to openvino,ncnn                               folders of two files, run in float32
  lightseg-export --model sinet --to tflite,onnx --explain                       what each rewrite changes; no file
  lightseg-export --model sinet --to tensorrt_rtx --capability portable,8.9      engines, compiled without a GPU
  lightseg-export --model sinet --to onnx --precision int8 --calibration photos  eight bits, judged on held-out photos
  lightseg-export --model sinet --to onnx,ncnn --plain                           by the general converters, to compare
  lightseg-export --matrix --out docs                                            what is proven, as a table; resumes
  lightseg-export --matrix --calibration portrait=DIR,street=DIR --out docs      its int8 cells too
  lightseg-export --list                                                         what this machine can do
"""


_NO_VARIANT = ("capability", "deployment_target", "plain")
UNHEEDED = {
    "matrix": ("weights", "input_size", "output", "preprocess", "dynamic", *_NO_VARIANT, "explain"),
    "explain": ("calibration", "evaluation", "max_drop", *_NO_VARIANT),
}
"""By mode, the options that would change nothing in it."""


def parser() -> argparse.ArgumentParser:
    p = command("lightseg-export", "Export a model and prove the file equal to PyTorch.", EXAMPLES)
    add_model(p, many=True)
    p.add_argument("--to", metavar="TARGET[,…]", help="a target of --list, or all this machine can write")
    p.add_argument("--precision", help="fp32 (default); fp16 or int8 where the target has it")
    p.add_argument(
        "--calibration",
        metavar="DIR",
        help="for int8: photographs like those the file will see; with --matrix also portrait=DIR,street=DIR",
    )
    p.add_argument(
        "--evaluation", metavar="DIR", help="for int8: other photographs (masks/ beside) that judge the file"
    )
    p.add_argument(
        "--max-drop", type=_points, metavar="POINTS", help="for int8: keep layers in float until it loses no more"
    )
    p.add_argument("--input-size", type=size, metavar="HxW", help="default: the size the model was published at")
    p.add_argument("--output", default="logits", help="logits (default), probability, mask, mask_coarse")
    p.add_argument("--preprocess", default="none", help="none (default) or baked: the file takes uint8 RGB images")
    p.add_argument("--dynamic", action="store_true", help="leave batch and image size open (onnx, openvino)")
    p.add_argument("--capability", metavar="X.Y[,…]", help="GPUs to compile engines for, as 8.9; default portable")
    p.add_argument("--deployment-target", metavar="iOSN", help="coreml: iOS15 … iOS18; default the oldest that can")
    p.add_argument("--plain", action="store_true", help="by the format's general converter instead, to compare with")
    p.add_argument("--out", default=".", metavar="DIR", help="folder for the files, default here")
    p.add_argument("--explain", action="store_true", help="write nothing; show what each rewrite changes for a target")
    p.add_argument("--matrix", action="store_true", help="try every model, target, precision; a table in --out")
    p.add_argument("--list", action="store_true", help="what can be converted and run on this machine, and why not")
    add_json(p)
    return p


def _points(text: str) -> float:
    """Raises argparse's error for what is none."""
    value = float(text)
    if not 0 <= value <= 100:  # NaN compares false
        raise argparse.ArgumentTypeError(f"{text} is not a number of points from 0 to 100, for instance 0.5")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _main, argv)


def _main(args: argparse.Namespace) -> int:
    if args.list:
        return _list(args)
    for mode in UNHEEDED:
        if getattr(args, mode):
            refuse_unheeded(parser(), args, f"--{mode}", UNHEEDED[mode])
    if args.matrix:
        from lightseg.export.matrix_mode import matrix

        return matrix(args)
    args.precision = args.precision or "fp32"
    from lightseg.errors import LightsegError

    if not args.model or not args.to:
        parser().error("say what to export: --model NAME --to TARGET, for instance --model sinet --to tflite")
    if args.explain:
        return _explain(args)
    records, seconds, failures = [], [], []
    for job in _jobs(args):
        start = time.process_time()
        try:
            records.append(job())
            seconds.append(time.process_time() - start)
        except LightsegError as error:
            failures.append(str(error))
    if records:
        _show(records, quiet=args.json == "-")
        spent = ", ".join(f"{r.target} {s:.1f}" for r, s in zip(records, seconds))
        say(args, f"seconds of processor time: {spent}; all, with PyTorch's own answers, {time.process_time():.1f}")
    emit_json(args.json, [r.to_dict() | {"path": str(r.path), "seconds": s} for r, s in zip(records, seconds)])
    for failure in failures:
        print(f"lightseg-export: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _jobs(args: argparse.Namespace) -> Iterator[Callable[[], Any]]:
    """One call per model and target; everything that can be refused without work is refused before the first."""
    from functools import partial

    from lightseg.export.pipeline import Request, export
    from lightseg.export.quantization.calibration import COUNTS, gather
    from lightseg.export.reference import Reference
    from lightseg.export.targets import find_target, named_targets
    from lightseg.zoo import create_model

    request = Request(
        args.precision, args.input_size, args.output, args.preprocess, args.dynamic, None, _wish(args), args.plain
    )
    models = [create_model(name, args.weights) for name in model_names(args.model, "")]
    targets = named_targets(args.to, args.precision, args.dynamic)
    targets = _with_converter(args, targets) if args.plain else targets
    devices = _devices(args, targets)
    requests = {target: replace(request, capabilities=devices.get(target)) for target in targets}
    for model in models:
        for target in targets:
            requests[target].check(model, find_target(target))
    if request.int8:
        for task in dict.fromkeys(model.spec.task for model in models):
            gather(request.int8.calibration, request.int8.evaluation, COUNTS[task])
    for model in models:
        say(args, f"{model.name}: {model.weights.origin} ({model.weights.licence.split(',')[0]})")
        reference = Reference(model, *request.size(model))
        for target in targets:
            yield partial(export, model, target, args.out, requests[target], reference)


def _with_converter(args: argparse.Namespace, targets: list[str]) -> list[str]:
    """Of ``--to all`` the targets with a general converter that is installed and can do what is asked; named ones as
    they are, so that each says why not.

    Errors: `BadInput` for what no general converter does, and where none is installed.
    """
    from importlib.util import find_spec

    from lightseg.errors import BadInput
    from lightseg.export.general import GENERAL

    if args.precision != "fp32" or args.dynamic:
        word = "--dynamic" if args.dynamic else f"--precision {args.precision}"
        raise BadInput(f"--plain writes float32 files of one size; leave {word}")
    if args.to != "all":
        return targets
    known = {name: GENERAL[name] for name in targets if name in GENERAL}
    able = [n for n, g in known.items() if all(map(find_spec, g.needs)) and (g.bakes or args.preprocess != "baked")]
    if not able:
        extras = ", ".join(f"lightseg[{general.extra}]" for general in GENERAL.values())
        raise BadInput(f"--plain finds no general converter here; install one of {extras}")
    return able


def _wish(args: argparse.Namespace) -> Any:
    """Errors: `BadInput` for options of int8 without the photographs."""
    from pathlib import Path

    from lightseg.errors import BadInput
    from lightseg.export.quantization.plan import Wish

    if not args.calibration:
        if args.evaluation or args.max_drop is not None:
            raise BadInput("--evaluation and --max-drop belong to int8: add --precision int8 --calibration DIR")
        return None
    return Wish(Path(args.calibration), args.evaluation and Path(args.evaluation), args.max_drop)


def _devices(args: argparse.Namespace, targets: list[str]) -> dict[str, tuple[str, ...]]:
    """What the files are made for, by target, as far as it is said; a target that is not asked for it goes without.

    Errors: `BadInput` for words that name nothing, and where no target in ``targets`` has the option: with no engine,
    or for another system than asked, all would look well.
    """
    from lightseg.errors import BadInput
    from lightseg.export.targets import TARGETS
    from lightseg.export.targets.coreml import COREML, deployment
    from lightseg.export.tensorrt.engines import check_word

    compiled = [name for name, target in TARGETS.items() if target.capabilities and target is not COREML]
    given = {
        "--capability": (args.capability, compiled, check_word),
        "--deployment-target": (args.deployment_target, [COREML.name], lambda word: deployment(word, args.precision)),
    }
    found: dict[str, tuple[str, ...]] = {}
    for option, (text, owners, check) in given.items():
        if text is None:
            continue
        words = tuple(filter(None, text.split(",")))
        if not words:
            raise BadInput(f"{option} {text} names nothing; leave it, or see lightseg-export --help")
        for word in words:
            check(word)
        if option == "--deployment-target" and len(words) > 1:
            raise BadInput(f"{option} {text} names {len(words)} systems; name the oldest that is to run the package")
        if not set(owners) & set(targets):
            raise BadInput(f"{option} is for --to {' or '.join(owners)}; leave it")
        found |= dict.fromkeys(owners, words)
    if args.plain and args.deployment_target:
        raise BadInput("--plain writes what the general converter does by itself; leave --deployment-target")
    return found


def _explain(args: argparse.Namespace) -> int:
    """Every model for every target; ``all`` means every target there is, since nothing is written or run."""
    from rich.console import Console

    from lightseg.export.explain import explain, table
    from lightseg.export.pipeline import Request
    from lightseg.export.targets import TARGETS, named_targets
    from lightseg.zoo import create_model

    request = Request(args.precision, args.input_size, args.output, args.preprocess, args.dynamic)
    targets = list(TARGETS) if args.to == "all" else named_targets(args.to, request.precision)
    models = [create_model(name, args.weights) for name in model_names(args.model, "")]
    found = [explanation for model in models for explanation in explain(model, targets, request)]
    console = Console(width=None if sys.stdout.isatty() else 200)
    for explanation in found if args.json != "-" else []:
        console.print(table(explanation), "")
    emit_json(args.json, [explanation.to_dict() for explanation in found])
    return 0


def _show(records: Sequence[Any], quiet: bool) -> None:
    if quiet:
        return
    from rich.console import Console
    from rich.table import Table

    from lightseg.files import size_of

    table = Table("file", "kB", "runtime", "max error / max logit", "same class", "near ties flipped", "proof")
    for r in records:
        p = r.parity
        flips = sum(row["near_tie_flips"] for row in p["probes"])
        runtime = f"{p['runner']['runtime']} {p['runner']['version']}"
        kilobytes = f"{size_of(r.path) / 1000:.0f}"
        agreement = f"{100 * p['agreement']:.4f} %"
        table.add_row(str(r.path), kilobytes, runtime, f"{p['relative_error']:.1e}", agreement, str(flips), "passed")
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    for r in records:
        if r.differs:
            shares = ", ".join(f"{name} {100 * share:.2f} %" for name, share in r.differs.items())
            console.print(f"{r.path.name} is not exact; pixels of another class: {shares}", soft_wrap=True)
        if q := r.quantization:
            loss, whole = q["task_loss"], q["int8_layers"] + len(q["float_layers"])
            print(
                f"{r.path}: {q['int8_layers']} of {whole} convolutions in int8, {100 * q['int8_macs']:.0f} % of their "
                f"multiply-accumulates; {loss['drop']:.2f} points of {loss['metric']} lost against {loss['against']} "
                f"on {loss['images']} images"
            )
    for r in records:
        if unproven := r.parity["runner"].get("unproven"):
            compiled = ", ".join(f"{e['capability']} ({e['bytes'] / 1000:.0f} kB)" for e in r.facts["engines"])
            print(f"{r.path}: compiled for {compiled} by {r.facts['parser']}; not proven: {unproven}")


def _list(args: argparse.Namespace) -> int:
    from lightseg.export.pipeline import matrix

    rows = matrix()
    if args.json != "-":
        for row in rows:
            print(f"{row['target']:10} {row['precisions']:12} dynamic size: {row['dynamic']}")
            print(f"{'':10} convert: {row['convert'] or 'yes'}")
            print(f"{'':10} run:     {row['run'] or 'yes'}")
    emit_json(args.json, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
