"""``lightseg-train``: images and masks in, a weights file out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightseg.cli import add_json, add_threads, command, emit_json, positive, run, say, size

if TYPE_CHECKING:
    from lightseg.train.evaluate import Predict, Result, Task
    from lightseg.train.recipe import Recipe
    from lightseg.zoo import SegmentationModel

EXAMPLES = """\
  lightseg-train --generate portrait --data demo                 a small data set to try things with
  lightseg-train --recipe sinet_portrait --data demo --check-data --out runs/look
  lightseg-train --estimate                                      every recipe: images/s here, hours here and on a GPU
  lightseg-train --recipe sinet_portrait --data demo --estimate  the same of one recipe, with its own data
  lightseg-train --recipe sinet_portrait --data demo --out runs/first epochs=3 batch=8
  lightseg-train --recipe sinet_portrait --data demo --out runs/first --resume epochs=3 batch=8
  lightseg-train --recipe sinet_portrait --data DIR --evaluate runs/first/sinet.safetensors,clova --out runs/scores
  lightseg-train --recipe sinet_portrait --data DIR --average lightseg,runs/second/sinet.safetensors --out runs/mean
  lightseg-train --recipe c3net_cityscapes --data CITYSCAPES/leftImg8bit/test --submission DIR --evaluate clova
  torchrun --nproc-per-node 2 -m lightseg.train.cli --recipe sinet_cityscapes --data CITYSCAPES --out runs/city"""


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), train, argv)


def parser() -> argparse.ArgumentParser:
    it = command(
        "lightseg-train",
        "Train a network as a recipe says, look at the data first, score weights afterwards.",
        EXAMPLES,
    )
    it.add_argument("--recipe", metavar="NAME", help="a recipe of the package (--list shows them) or a YAML file")
    it.add_argument("--data", metavar="DIR", type=Path, help="the folder the recipe's train_folder lies in")
    it.add_argument("--out", metavar="DIR", type=Path, help="where weights, checkpoints, logs and sheets go")
    it.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --out")
    what = it.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="list the recipes")
    what.add_argument("--check-data", action="store_true", help="count, verify, and draw a contact sheet into --out")
    what.add_argument("--generate", choices=("portrait", "street"), help="write a procedural data set into --data")
    what.add_argument(
        "--estimate",
        action="store_true",
        help="time a few steps of --recipe, or of every recipe; say how long the whole schedules would take. "
        "Recipes whose data are not there are timed on generated ones",
    )
    what.add_argument(
        "--average",
        metavar="WEIGHTS,WEIGHTS",
        help="write the mean of weights files or tags into --out, scored beside them on the images a run chooses with",
    )
    it.add_argument(
        "--count", type=positive, metavar="N", help="training pairs to generate (default 64), or to --estimate with"
    )
    it.add_argument(
        "--seconds", type=positive, default=30, metavar="N", help="of --estimate's timed steps per recipe (default 30)"
    )
    what.add_argument(
        "--evaluate",
        metavar="WEIGHTS[,WEIGHTS]",
        help="score weights files or tags; two are compared, pair by pair (exported files: lightseg-evaluate)",
    )
    it.add_argument("--input-size", type=size, metavar="HxW", help="for --evaluate; default: the recipe's")
    it.add_argument("--submission", metavar="DIR", type=Path, help="write Cityscapes test predictions of --evaluate")
    add_threads(it)
    add_json(it)
    it.add_argument("overrides", nargs="*", metavar="key=value", help="change keys of the recipe")
    it.parse_args = it.parse_intermixed_args  # type: ignore[method-assign]  # overrides between options too
    return it


def train(args: argparse.Namespace) -> int:
    from lightseg.train import recipe as recipes

    if args.list:
        print("\n".join(recipes.available()))
        return 0
    if args.estimate:
        return _estimate(args)
    data = _required(args, "data")
    if args.generate:
        return generate(args, data)
    recipe = recipes.load(_required(args, "recipe"), args.overrides)
    import torch

    torch.set_num_threads(args.threads)
    if args.check_data:
        return check_data(args, recipe, data)
    if args.average:
        return average(args, recipe, data)
    if args.submission:
        return submission(args, recipe, data)
    if args.evaluate:
        return evaluate(args, recipe, data)
    return fit(args, recipe, data)


def fit(args: argparse.Namespace, recipe: Recipe, data: Path) -> int:
    from lightseg.train import logs
    from lightseg.train import run as runs
    from lightseg.train.world import processes

    out = _required(args, "out")
    with processes() as world:
        quiet: logs.Log = logs.Silent()
        if not world.first:
            path = runs.fit(runs.Job(recipe, data, out, quiet, world, args.resume))
            return 0
        progress = logs.Progress()
        with progress.bar:
            log = logs.Several(progress, logs.Files(out))
            path = runs.fit(runs.Job(recipe, data, out, log, world, args.resume))
    return told(args, recipe, path, {})


def average(args: argparse.Namespace, recipe: Recipe, data: Path) -> int:
    from lightseg.train.average import average
    from lightseg.train.run import Job

    names = [name for name in args.average.split(",") if name]
    found = average(Job(recipe, data, _required(args, "out")), names)
    say(args, f"score of the {found.images} images a run chooses with:")
    say(args, "\n".join(f"  {name} {score:.2f}" for name, score in found.scores.items()))
    say(args, f"  their mean {found.score:.2f}, {found.gain} per image from the best of them")
    scores = {"images": found.images, "parts": found.scores, "mean": found.score, "gain": vars(found.gain)}
    return told(args, recipe, found.path, {"choosing": scores})


def told(args: argparse.Namespace, recipe: Recipe, path: Path, more: dict[str, Any]) -> int:
    """Say what a finished weights file is worth, and how to go on with it."""
    from lightseg.weights import load_path
    from lightseg.zoo import find_spec

    record, _ = load_path(find_spec(recipe.model), path)
    for figure in record.figures.values():
        print(f"{figure.value:.2f} {figure.unit} ({figure.source})", file=sys.stderr)
    print(f"{path}: use it with --model {recipe.model} --weights {path}", file=sys.stderr)
    figures = {name: vars(figure) for name, figure in record.figures.items()}
    emit_json(args.json, {"weights": str(path), "model": recipe.model, "figures": figures} | more)
    return 0


def check_data(args: argparse.Namespace, recipe: Recipe, data: Path) -> int:
    import dataclasses

    from lightseg.errors import BadInput
    from lightseg.train import sheets
    from lightseg.train.check import check
    from lightseg.train.layouts import find_pairs, lonely
    from lightseg.zoo import find_spec

    report: dict[str, Any] = {}
    broken: list[str] = []
    for folders in (recipe.train_folder, recipe.val_folder):
        found, sheet = check(find_pairs(recipe.layout, data, folders), recipe.layout, find_spec(recipe.model).labels)
        named = found.broken + [f"{path} has no partner" for path in lonely(recipe.layout, data, folders)]
        report[folders] = dataclasses.asdict(found) | {"broken": named}
        broken += named
        print(
            f"{folders}: {found.pairs} pairs {found.sources}, sizes {dict(list(found.sizes.items())[:4])}",
            file=sys.stderr,
        )
        print("  share of the pixels: " + ", ".join(f"{k} {v:.1%}" for k, v in found.balance.items()), file=sys.stderr)
        if found.empty:
            print(f"  a single class or nothing: {', '.join(found.empty[:10])}", file=sys.stderr)
        if sheet is not None and args.out:
            path = args.out / f"{folders.replace('/', '-')}.png"
            sheets.write_png(path, sheet)
            print(f"  contact sheet: {path}", file=sys.stderr)
    emit_json(args.json, report)
    for line in broken:
        print(f"  broken: {line}", file=sys.stderr)
    if broken:
        raise BadInput(f"{len(broken)} files are broken (named above); fetch them again or remove them")
    return 0


def generate(args: argparse.Namespace, data: Path) -> int:
    from lightseg.train.generate import refuse_data, write

    train_folder, val_folder = (
        ("portrait_train", "portrait_val") if args.generate == "portrait" else ("street_train", "street_val")
    )
    for folder in (train_folder, val_folder):  # both, before one is written
        refuse_data(data / folder)
    count = args.count or 64
    write(args.generate, data / train_folder, count, seed=0)
    write(args.generate, data / val_folder, max(4, count // 8), seed=1)
    print(
        f"{data}: {count} pairs to train on in {train_folder}, {max(4, count // 8)} in {val_folder}",
        file=sys.stderr,
    )
    emit_json(args.json, {"train": str(data / train_folder), "val": str(data / val_folder)})
    return 0


def evaluate(args: argparse.Namespace, recipe: Recipe, data: Path) -> int:
    from lightseg.train import evaluate as scoring
    from lightseg.train import sheets

    results: dict[str, Result] = {}
    report: dict[str, Any] = {}
    short = scoring.short_names(args.evaluate.split(","))
    for name in short:
        model, task, predict = candidate(args, recipe, data, name)
        result = results[name] = scoring.evaluate(predict, task)
        report[name] = {"weights": model.weights.sha256} | result.summary()
        shown = (f"  {k} {v:.2f}" for k, v in result.summary().items() if isinstance(v, float))
        say(args, "\n".join((f"{name}:", *shown)))
        if args.out:
            sheet = scoring.prediction_sheet(predict, task, scoring.worst(result))
            sheets.write_png(args.out / f"worst-{short[name]}.png", sheet)
    if args.out:
        scoring.write_per_image(args.out / "per_image.csv", {short[k]: v for k, v in results.items()})
    if len(results) == 2:
        (first, a), (second, b) = results.items()
        report["difference"] = {k: vars(v) for k, v in scoring.compare(a, b).items()}
        say(args, f"{second} − {first}, per-image IoU in points, paired 95 % interval:")
        say(args, "\n".join(f"  {k} {v}" for k, v in scoring.compare(a, b).items()))
    emit_json(args.json, report)
    return 0


def submission(args: argparse.Namespace, recipe: Recipe, data: Path) -> int:
    from lightseg.errors import Unsupported
    from lightseg.train.evaluate import of_network
    from lightseg.train.submission import write_submission
    from lightseg.zoo import create_model

    model = create_model(recipe.model, weights=_required(args, "evaluate"))
    if model.spec.task != "street":
        raise Unsupported(f"{recipe.model} knows no street classes; take a recipe for Cityscapes, --list shows them")
    wanted = args.input_size or (recipe.height, recipe.width)
    model.spec.check_size(*wanted)
    files = list(write_submission(of_network(model.net), model.weights.preprocess, data, args.submission, wanted))
    print(f"{args.submission}: {len(files)} predictions; zip the folder and upload it", file=sys.stderr)
    emit_json(args.json, {"predictions": len(files), "folder": str(args.submission)})
    return 0


def candidate(
    args: argparse.Namespace, recipe: Recipe, data: Path, name: str
) -> tuple[SegmentationModel, Task, Predict]:
    """A weights file or tag of the recipe's model, ready to be scored on the recipe's validation pairs."""
    from lightseg.errors import BadInput
    from lightseg.train.evaluate import Task, of_network
    from lightseg.train.layouts import find_pairs
    from lightseg.zoo import create_model

    if Path(f"{name}.json").is_file():
        raise BadInput(
            f"{name} is an exported file; score it with: lightseg-evaluate {name} --data {data / recipe.val_folder} "
            f"--layout {recipe.layout}"
        )
    model = create_model(recipe.model, weights=name)
    wanted = args.input_size or (recipe.height, recipe.width)
    model.spec.check_size(*wanted)
    pairs = find_pairs(recipe.layout, data, recipe.val_folder)
    return model, Task(pairs, recipe.layout, wanted, model.weights.preprocess, model.spec.labels), of_network(model.net)


def _estimate(args: argparse.Namespace) -> int:
    from lightseg.train.estimate_mode import estimate

    text, report = estimate(args, lambda line: print(line, file=sys.stderr))
    say(args, text)
    emit_json(args.json, report)
    return 0


def _required(args: argparse.Namespace, name: str) -> Any:
    from lightseg.errors import BadInput

    value = getattr(args, name)
    if value is None:
        raise BadInput(f"--{name} is missing; see lightseg-train --help")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
