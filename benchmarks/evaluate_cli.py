"""lightseg-evaluate: accuracy of models and artifacts on labelled images."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightseg.cli import add_json, add_threads, command, emit_json, run, say, size

if TYPE_CHECKING:
    from lightseg.train.evaluate import Agreement, Result

EXAMPLES = """\
  lightseg-evaluate sinet --data data/portrait_val                                 default weights, in PyTorch
  lightseg-evaluate sinet out/sinet-lightseg-fp32.tflite --data data/portrait_val  the file beside them, pair by pair
  lightseg-evaluate out/sinet-lightseg-fp32.tflite selfie --data data/portrait_val  MediaPipe's network beside it
  lightseg-evaluate sinet.clova sinet=mine.safetensors --data DIR --out scores     per-image table as CSV
  lightseg-evaluate c3net --data data/street_val --layout camvid --input-size 512x768
  lightseg-evaluate c3net out/c3net-clova-int8.onnx --data DIR --layout camvid --noise 1   is int8 the larger change?
"""


def parser() -> argparse.ArgumentParser:
    p = command("lightseg-evaluate", "Score models and exported files on labelled images.", EXAMPLES)
    p.add_argument("candidate", nargs="+", metavar="FILE|MODEL[.TAG]|MODEL=WEIGHTS|PEER")
    p.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the labelled images")
    p.add_argument("--layout", default="pairs", help="pairs (default: images/ and masks/), eg1800, cityscapes, camvid")
    p.add_argument("--input-size", type=size, metavar="HxW", help="for models; default: the published size")
    p.add_argument(
        "--noise",
        type=int,
        default=0,
        metavar="LEVELS",
        help="score the first candidate once more, its photographs moved by up to so many grey levels at random: how "
        "far its masks agree with themselves",
    )
    p.add_argument("--out", type=Path, metavar="DIR", help="write per_image.csv and sheets of the worst images there")
    add_threads(p)
    add_json(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _main, argv)


def _main(args: argparse.Namespace) -> int:
    from lightseg.errors import BadInput, MissingExtra

    if not 0 <= args.noise <= 64:
        raise BadInput(f"--noise {args.noise}: give 1 to 64 grey levels, or 0 for none")
    try:
        from lightseg.benchmarks.accuracy import candidate, task_of
        from lightseg.train.evaluate import (
            agreement,
            compare,
            evaluate,
            prediction_sheet,
            short_names,
            worst,
            write_per_image,
        )
        from lightseg.train.sheets import write_png
    except ModuleNotFoundError as error:
        raise MissingExtra("scoring", "train", str(error.name)) from error
    candidates = [candidate(text, args.input_size, args.threads) for text in args.candidate]
    runs = {one.name: (one.predict, task_of(one, args.data, args.layout)) for one in candidates}
    if args.noise:
        name, (predict, task) = next(iter(runs.items()))
        runs[f"{name} with noise of {args.noise}"] = predict, replace(task, noise=args.noise)
    files = short_names(list(runs))
    results: dict[str, Result] = {}
    for name, (predict, task) in runs.items():
        result = results[name] = evaluate(predict, task)
        if args.out:
            write_png(args.out / f"worst-{files[name]}.png", prediction_sheet(predict, task, worst(result)))
        say(args, _line(name, result))
    first, *others = results
    differences = {f"{other} - {first}": compare(results[first], results[other]) for other in others}
    alike = {other: agreement(results[first], results[other]) for other in others}
    for name, parts in differences.items():
        say(args, f"{name}: " + "; ".join(f"{part} {interval} points" for part, interval in parts.items()))
    for name, found in alike.items():
        say(args, f"{name} repeats the masks of {first}: {found or 'not comparable, the sizes differ'}")
    if args.out:
        write_per_image(args.out / "per_image.csv", {files[name]: result for name, result in results.items()})
    emit_json(args.json, _as_json(results, differences, alike))
    return 0


def _line(name: str, result: Result) -> str:
    summary = result.summary()
    keys = [k for k in summary if not k.endswith(("_low", "_high")) and not k.startswith("iou_class")]
    return f"{name}: " + ", ".join(f"{k} {_shown(summary, k)}" for k in keys)


def _shown(summary: dict[str, Any], key: str) -> str:
    value = summary[key]
    interval = f" [{summary[key + '_low']:.2f}, {summary[key + '_high']:.2f}]" if key + "_low" in summary else ""
    return f"{value:.4f}{interval}" if isinstance(value, float) else str(value)


def _as_json(
    results: dict[str, Result], differences: dict[str, Any], alike: dict[str, Agreement | None]
) -> dict[str, Any]:
    return {
        "scores": {name: result.summary() for name, result in results.items()},
        "differences": {
            name: {part: vars(interval) for part, interval in parts.items()} for name, parts in differences.items()
        },
        "agreement": {name: vars(found) if found else None for name, found in alike.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
