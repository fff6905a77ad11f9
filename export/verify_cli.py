"""lightseg-verify: repeat an artifact's proof."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightseg.cli import add_json, add_threads, command, emit_json, model_names, positive, refuse_unheeded, run, say
from lightseg.export.junit import Case, write_junit

EXAMPLES = """\
  lightseg-verify sinet-lightseg-fp32.tflite            golden inputs and outputs that travel with the file
  lightseg-verify *.onnx --torch                        every probe against PyTorch float64
  lightseg-verify mine.onnx --torch --weights mine.safetensors
  lightseg-verify mine.tflite --images photos           the decisions on real images, weighed by how sure they were
  lightseg-verify mine.tflite --runtime tensorflow      a second opinion: TensorFlow's own interpreter
  lightseg-verify out/*.tflite --junit parity.xml       verdicts a CI service shows
  lightseg-verify mine.onnx.failed --bisect --out tmp   which operation goes wrong, from which line; a reproduction
  lightseg-verify mine-int8.onnx --bisect               int8: the first value off its grid, from the file's own inputs
  lightseg-verify *.tflite --gpu-delegate               does LiteRT's GPU delegate take all of it, and answer rightly?
  lightseg-verify --self-test --to onnx,tflite          seed known defects: does the proof refuse each of them?
  lightseg-verify --self-test --to onnx --precision int8   the same in eight bits: grids, scales and zero points too
exit status: 0 proven, 1 not equal or not usable, 2 wrong usage
"""

_SEEDED = ("model", "to", "precision")
_PROOF = ("torch", "runtime", "images", "limit")
UNHEEDED = {
    "self_test": ("bisect", "gpu_delegate", "out", *_PROOF),
    "bisect": ("gpu_delegate", *_PROOF, *_SEEDED),
    "gpu_delegate": ("weights", "out", *_PROOF, *_SEEDED),
    "": _SEEDED,
}
"""By mode, the options that would change nothing in it."""


def parser() -> argparse.ArgumentParser:
    p = command("lightseg-verify", "Repeat the proof of exported files, or try the proof itself.", EXAMPLES)
    p.add_argument("artifact", nargs="*", metavar="FILE")
    p.add_argument("--torch", action="store_true", help="compare with PyTorch too; needs the weights")
    p.add_argument("--weights", metavar="FILE", help="the weights file the artifact was made from")
    p.add_argument("--images", metavar="DIR", help="compare decisions on the photographs of a folder with PyTorch's")
    p.add_argument("--limit", type=positive, metavar="N", help="at most so many of them")
    p.add_argument("--runtime", metavar="NAME", help="a second runtime of the format: tensorflow for .tflite files")
    p.add_argument(
        "--bisect", action="store_true", help="find the first operation that leaves PyTorch; needs the weights"
    )
    p.add_argument("--out", metavar="DIR", help="for --bisect: a folder for runnable reproductions")
    p.add_argument("--gpu-delegate", action="store_true", help="TFLite: on LiteRT's GPU delegate alone, no timing")
    p.add_argument("--self-test", action="store_true", help="seed known defects into fresh files and count the caught")
    p.add_argument("--model", default="sinet", metavar="NAME[.TAG][,…]", help="for --self-test, default sinet")
    p.add_argument("--to", default="all", metavar="TARGET[,…]", help="for --self-test, default all this machine can")
    p.add_argument("--precision", default="fp32", help="for --self-test, default fp32")
    p.add_argument("--junit", metavar="FILE", help="the verdicts as JUnit XML, for CI")
    add_threads(p)
    add_json(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _main, argv)


def _main(args: argparse.Namespace) -> int:
    mode = next((mode for mode in UNHEEDED if mode and getattr(args, mode)), "")
    refuse_unheeded(
        parser(), args, f"--{mode.replace('_', '-')}" if mode else "a proof without --self-test", UNHEEDED[mode]
    )
    if args.self_test:
        return _self_test(args)
    from lightseg.errors import LightsegError

    if not args.artifact:
        parser().error("say which files, or try the proof itself with --self-test")
    if args.out and not args.bisect:
        parser().error("--out is the folder for the reproductions of --bisect")
    if args.weights and not (args.bisect or args.torch or args.images):
        parser().error("--weights is for a comparison with PyTorch: add --torch, --images DIR or --bisect")
    if args.limit and not args.images:
        parser().error("--limit is a number of photographs: add --images DIR")
    examine = _bisected if args.bisect else _on_gpu if args.gpu_delegate else _verified
    results: list[dict[str, Any]] = []
    cases = []
    for path in args.artifact:
        start = time.perf_counter()
        try:
            result, said, failure = examine(args, path)
        except LightsegError as error:
            result, said, failure = {"file": path}, getattr(error, "diff", ""), str(error)
            say(args, said, end="\n" if said else "")
        if failure:
            print(f"lightseg-verify: {failure}", file=sys.stderr)
            result |= {"error": failure}
        results.append(result | {"ok": failure is None})
        cases.append(Case("lightseg-verify", path, time.perf_counter() - start, said, failure))
    emit_json(args.json, results)
    _emit_junit(args, cases)
    return 1 if any(c.failure for c in cases) else 0


Verdict = tuple[dict[str, Any], str, str | None]
"""The result for ``--json``, what is said of it, and the failure where there is one."""


def _verified(args: argparse.Namespace, path: str) -> Verdict:
    from lightseg.export.verification import verify

    result = verify(path, args.torch, args.weights, args.threads, args.runtime, args.images, args.limit).to_dict()
    said = _summary(result)
    say(args, f"{path}: proven; {said}")
    return result, said, None


def _bisected(args: argparse.Namespace, path: str) -> Verdict:
    from rich.console import Console

    from lightseg.export.record import read_artifact

    artifact = read_artifact(Path(path))
    if artifact.quantization:
        return _bisected_int8(args, artifact)
    from lightseg.export.bisection import bisection, traced
    from lightseg.export.bisection_table import summary, table
    from lightseg.export.reproduction import write_reproduction

    trace, parity = traced(path, args.weights)
    found = bisection(trace, parity)
    written = write_reproduction(trace, found, Path(args.out)) if args.out else None
    said = summary(found, written)
    if args.json != "-":
        Console(width=None if sys.stdout.isatty() else 200).print(table(found))
    say(args, said)
    return (
        found.to_dict() | {"reproduction": written and str(written)},
        said,
        None if found.ok else f"{path}: {found.said}",
    )


def _bisected_int8(args: argparse.Namespace, artifact: Any) -> Verdict:
    from rich.console import Console

    from lightseg.errors import Unsupported
    from lightseg.export.int8_bisection import bisect_int8, summary, table

    if args.out:
        raise Unsupported(f"{artifact.path.name}: reproductions are of fp32 and fp16 files; leave out --out")
    found = bisect_int8(artifact, args.weights)
    said = summary(found)
    if args.json != "-":
        Console(width=None if sys.stdout.isatty() else 200).print(table(found))
    say(args, said)
    return found.to_dict(), said, None if found.ok else f"{artifact.path}: {found.said}"


def _on_gpu(args: argparse.Namespace, path: str) -> Verdict:
    from lightseg.export.gpu_delegate import on_gpu

    found = on_gpu(Path(path))
    if found.ok:
        say(args, str(found))
    return found.to_dict(), str(found), None if found.ok else str(found)


def _emit_junit(args: argparse.Namespace, cases: Sequence[Case]) -> None:
    if args.junit:
        write_junit(Path(args.junit), cases)


def _self_test(args: argparse.Namespace) -> int:
    """One target that cannot be tried does not keep the others from it."""
    from lightseg.errors import LightsegError
    from lightseg.export.selftest import self_test
    from lightseg.export.targets import named_targets
    from lightseg.zoo import create_model

    if args.artifact:
        parser().error("--self-test makes its own files; leave out the names")
    names = model_names(args.model, "")
    targets = named_targets(args.to, args.precision)
    models = [create_model(name, args.weights) for name in names]
    results, refused = [], []
    for model in models:
        for target in targets:
            try:
                results.append(self_test(model, target, args.precision, tell=lambda text: _progress(args, text)))
            except LightsegError as error:
                refused.append(
                    {"model": model.name, "target": target, "precision": args.precision, "error": str(error)}
                )
    _progress(args, "")
    for result in results:
        say(args, _verdict(result))
    for one in refused:
        print(f"lightseg-verify: {one['model']}, {one['target']} {one['precision']}: {one['error']}", file=sys.stderr)
    emit_json(args.json, [*(r.to_dict() for r in results), *refused])
    _emit_junit(args, [*(_case(r, trial) for r in results for trial in r.trials), *map(_unfounded, refused)])
    return 1 if refused or any(r.survivors or not r.tried for r in results) else 0


def _case(result: Any, trial: Any) -> Case:
    suite = f"lightseg-verify self-test {result.model} {result.target} {result.precision}"
    failure = f"survived: {trial.message}" if trial.caught is False else None
    return Case(suite, f"{trial.defect} ({trial.seeded_in})", 0.0, trial.message, failure, trial.caught is None)


def _unfounded(refused: dict[str, str]) -> Case:
    """No defect can be tried where the sound file is refused or cannot be made."""
    suite = f"lightseg-verify self-test {refused['model']} {refused['target']} {refused['precision']}"
    return Case(suite, "the sound file", 0.0, "", refused["error"])


def _progress(args: argparse.Namespace, text: str) -> None:
    if args.json != "-" and sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _verdict(result: Any) -> str:
    caught = result.tried - len(result.survivors)
    lines = [
        f"{result.model}, {result.target} {result.precision} ({result.runtime}): {caught} of {result.tried} defects "
        f"caught, {100 * result.kill_rate:.0f} %; smallest noise on the weights that is caught: "
        + (f"{result.smallest_caught:.0e}" if result.smallest_caught else "none")
    ]
    words = {True: "caught", False: "SURVIVED", None: "not tried"}
    lines += [f"  {words[t.caught]:9}  {t.defect} ({t.seeded_in}): {t.message}" for t in result.trials]
    return "\n".join(lines)


def _summary(result: dict[str, Any]) -> str:
    parts = [
        f"golden {g['probe']}: largest error {g['max_error']:.2g} of {g['allowed']:.2g} allowed, "
        f"{g['flips']} pixels flipped of {g['ties']} near ties"
        for g in result["goldens"]
    ]
    if result["parity"]:
        p = result["parity"]
        parts.append(
            f"PyTorch float64: relative error {p['relative_error']:.1e}, same class {100 * p['agreement']:.4f} %"
        )
    if result["decisions"]:
        d = result["decisions"]
        least = min((c["iou"] for c in d["classes"]), default=1.0)
        parts.append(
            f"decisions on {len(d['images'])} images: margin lost {d['flipped_weight']:.1e}, changed off any boundary "
            f"{d['interior']:.1e}, on one {d['boundary']:.1e}, least IoU {least:.6f}"
        )
    return "; ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
