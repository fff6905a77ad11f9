"""lightseg-verify: repeat an artifact's proof."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from lightseg.cli import add_json, add_threads, command, emit_json, run

EXAMPLES = """\
  lightseg-verify sinet-lightseg-fp32.tflite            golden inputs and outputs that travel with the file
  lightseg-verify *.onnx --torch                        every probe against PyTorch float64
  lightseg-verify mine.onnx --torch --weights mine.safetensors
exit status: 0 proven, 1 not equal or not usable, 2 wrong usage
"""


def parser() -> argparse.ArgumentParser:
    p = command("lightseg-verify", "Repeat the proof of exported files.", EXAMPLES)
    p.add_argument("artifact", nargs="+", metavar="FILE")
    p.add_argument("--torch", action="store_true", help="compare with PyTorch too; needs the weights")
    p.add_argument("--weights", metavar="FILE", help="the weights file the artifact was made from")
    add_threads(p)
    add_json(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _main, argv)


def _main(args: argparse.Namespace) -> int:
    from lightseg.errors import LightsegError
    from lightseg.export.pipeline import verify

    results: list[dict[str, Any]] = []
    failed = 0
    for path in args.artifact:
        try:
            result = verify(path, args.torch, args.weights, args.threads).to_dict()
            results.append(result | {"ok": True})
            _say(args, f"{path}: proven; {_summary(result)}")
        except LightsegError as error:
            failed += 1
            results.append({"file": path, "ok": False, "error": str(error)})
            print(f"lightseg-verify: {error}", file=sys.stderr)
    emit_json(args.json, results)
    return 1 if failed else 0


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
    return "; ".join(parts)


def _say(args: argparse.Namespace, text: str) -> None:
    if args.json != "-":
        print(text)


if __name__ == "__main__":
    sys.exit(main())
