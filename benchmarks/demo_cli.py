"""lightseg-demo: the main job from weights to numbers, in one command; or a page that shows it in a browser."""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightseg import cli

if TYPE_CHECKING:
    from lightseg.benchmarks.demo import Step

EXAMPLES = """\
  lightseg-demo                                         the default model on the packaged portrait, files in out/
  lightseg-demo --photo me.jpg --out mine
  lightseg-demo --model c3net --photo street.jpg
  lightseg-demo --browser                               a local page: drop a photo or use the camera, see mask and cost
  lightseg-demo --browser --artifact out/*.onnx out/*.tflite
exit status: 0 done, 1 a step failed (its own line says why), 2 wrong usage
"""
STEPS = 3


def parser() -> argparse.ArgumentParser:
    p = cli.command("lightseg-demo", "Export a model, segment a photograph with it, and time it.", EXAMPLES)
    cli.add_model(p)
    p.add_argument("--photo", type=Path, metavar="FILE", help="default: the packaged portrait (NASA, public domain)")
    p.add_argument("--out", type=Path, default=Path("out"), metavar="DIR", help="folder for all files, default out")
    group = p.add_argument_group("in the browser")
    group.add_argument(
        "--browser", action="store_true", help="serve a page on this machine in place of the three steps"
    )
    group.add_argument("--artifact", nargs="+", type=Path, metavar="FILE", help="exported files to show, not --model")
    group.add_argument("--port", type=int, default=0, metavar="N", help="where the page is served (default: any free)")
    cli.add_json(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    return cli.run(parser(), _main, argv)


def _main(args: argparse.Namespace) -> int:
    from lightseg.benchmarks.demo import demo
    from lightseg.images import read_photo, sample_photo

    if args.artifact and not args.browser:
        parser().error("--artifact belongs to --browser; lightseg-predict takes one too")
    photo = args.photo or sample_photo()
    read_photo(photo)  # a wrong path is worth knowing before the export
    if args.browser:
        return _show(args, photo)
    start = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr) if args.json == "-" else contextlib.nullcontext():
        result = demo(args.model or "sinet", args.weights, photo, args.out, _announce)
        result["seconds"] = round(time.perf_counter() - start, 1)
        _conclude(result)
    cli.emit_json(args.json, result)
    return 0


def _show(args: argparse.Namespace, photo: Path) -> int:
    """Serve the page until the user stops it."""
    from lightseg.benchmarks.browser import runtimes, show

    folder = runtimes.default_folder()
    runtimes.require(folder)  # before the export, which takes its time
    artifacts = args.artifact or _exported(args)
    site = show.demo_site(folder, artifacts, photo)
    show.serve(site, args.port, _say_address, _wait)
    return 0


def _wait() -> None:
    """For ever, or until Ctrl-C."""
    threading.Event().wait()


def _exported(args: argparse.Namespace) -> list[Path]:
    from lightseg.benchmarks.browser.mode import TARGETS
    from lightseg.benchmarks.selection import export_all
    from lightseg.export.pipeline import Request

    return export_all([args.model or "sinet"], args.weights, TARGETS, [Request()], args.out, _say)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _say_address(url: str) -> None:
    print(f"open {url} in a browser on this machine; Ctrl-C ends it", flush=True)


def _announce(number: int, step: Step) -> None:
    print(f"\n[{number}/{STEPS}] {step.title}\n$ {step.line}", flush=True)


def _conclude(result: dict[str, Any]) -> None:
    mask, cutout, overlay = result["pictures"]
    print(f"\nDone in {result['seconds']:.0f} s.")
    print(f"  look at   {overlay}\n            {cutout}\n            {mask}")
    for artifact in result["artifacts"]:
        print(f"  deploy    {artifact}  (+ .json: how to feed it, and its proof)")
    print(f"  raw data  {', '.join(step['json'] for step in result['steps'])}")
    print(f"  next      lightseg-predict YOUR_PHOTO.jpg --artifact {result['used']}")
    print(f"            lightseg-verify {result['used']} --torch")
    print("            lightseg-export --list; lightseg-bench --model all --quick; any command --help")


if __name__ == "__main__":
    sys.exit(main())
