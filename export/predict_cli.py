"""lightseg-predict: masks, cut-outs and overlays of photographs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightseg.cli import add_json, add_model, add_threads, command, emit_json, run, size

if TYPE_CHECKING:
    from lightseg.predict import Prediction

EXAMPLES = """\
  lightseg-predict photo.jpg                            mask, cut-out and overlay beside you
  lightseg-predict *.jpg --model extremec3net --out masks
  lightseg-predict photo.jpg --artifact sinet-lightseg-fp32.tflite
  lightseg-predict street.png --model c3net
  lightseg-predict street.png --model c3netv2.camvid --input-size 384x512
"""


def parser() -> argparse.ArgumentParser:
    p = command("lightseg-predict", "Segment photographs with a model or an exported file.", EXAMPLES)
    p.add_argument("image", nargs="+", type=Path)
    add_model(p)
    p.add_argument("--artifact", type=Path, metavar="FILE", help="an exported file, in place of --model")
    p.add_argument("--input-size", type=size, metavar="HxW", help="what photos are resized to; default: the model's")
    p.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="folder for the pictures, default here")
    add_threads(p)
    add_json(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _main, argv)


def _main(args: argparse.Namespace) -> int:
    from lightseg.errors import BadInput, LightsegError
    from lightseg.images import read_photo
    from lightseg.predict import write_prediction

    if args.artifact and (args.model or args.weights):
        parser().error("give either --artifact FILE or --model NAME, not both")
    if args.artifact and args.input_size:
        raise BadInput("an exported file has its own size; leave --input-size out, or give --model NAME")
    _check_names(args.image)
    predict, labels = _from_artifact(args) if args.artifact else _from_model(args)
    results: list[dict[str, Any]] = []
    failed = 0
    for path in args.image:
        try:
            photo = read_photo(path)
            prediction = predict(photo)
            files = write_prediction(prediction, photo, path.stem, args.out, labels)
        except LightsegError as error:
            failed += 1
            print(f"lightseg-predict: {error}", file=sys.stderr)
            continue
        shares = {n: round(float((prediction.mask == i).mean()), 4) for i, n in enumerate(labels.names)}
        results.append({"image": str(path), "files": [str(f) for f in files], "shares": shares})
        if args.json != "-":
            top = ", ".join(f"{n} {100 * s:.1f} %" for n, s in sorted(shares.items(), key=lambda i: -i[1])[:4] if s)
            print(f"{path}: {top} -> {', '.join(map(str, files))}")
    emit_json(args.json, results)
    return 1 if failed else 0


def _check_names(images: Sequence[Path]) -> None:
    """Two photos of one name in two folders would overwrite each other's pictures."""
    from lightseg.errors import BadInput

    stems = [path.stem for path in images]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None)
    if twice:
        raise BadInput(f"two photos are called {twice}, so their masks would be too; give each its own call and --out")


def _from_model(args: argparse.Namespace) -> tuple[Callable[[Any], Prediction], Any]:
    from lightseg.export.runner import torch_runner
    from lightseg.predict import predict_photo
    from lightseg.zoo import create_model

    model = create_model(args.model or "sinet", args.weights)
    runner, labels = torch_runner(model, args.threads), model.spec.labels
    to = args.input_size or model.spec.input_size
    model.spec.check_size(*to)
    return lambda photo: predict_photo(runner, photo, to, model.weights.preprocess, labels), labels


def _from_artifact(args: argparse.Namespace) -> tuple[Callable[[Any], Prediction], Any]:
    from lightseg.errors import Unsupported
    from lightseg.export.record import read_artifact
    from lightseg.export.verification import load
    from lightseg.predict import predict_photo

    artifact = read_artifact(args.artifact)
    if artifact.output != "logits":
        raise Unsupported(
            f"{artifact.path.name} returns a {artifact.output}, which cannot be enlarged to the photo smoothly; "
            "export it with --output logits"
        )
    runner = load(artifact.path, args.threads)
    return (
        lambda photo: predict_photo(runner, photo, artifact.size, artifact.feeds, artifact.labels),
        artifact.labels,
    )


if __name__ == "__main__":
    sys.exit(main())
