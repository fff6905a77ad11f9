"""What all commands share: how they end, and the words they use."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from lightseg.errors import BadInput, LightsegError, MissingExtra

JSON_FILES = {".json", ""}
"""What a file may be called that ``--json`` writes over; ``/dev/stdout`` may be a file too."""
Main = Callable[[argparse.Namespace], int | None]

EXTRA_OF = {"cv2": "train", "yaml": "train"}
"""The extra that brings a package which some modules cannot be imported without."""


def run(parser: argparse.ArgumentParser, main: Main, argv: Sequence[str] | None = None) -> int:
    """Parse, run, and turn a `LightsegError` or a missing extra into one line on standard error and exit code 1."""
    args = parser.parse_args(argv)
    try:
        code = main(args) or 0
        sys.stdout.flush()
        return code
    except LightsegError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "torch":
            print(f"{parser.prog}: this needs PyTorch; install it with: pip install torch", file=sys.stderr)
            return 1
        if package not in EXTRA_OF:
            raise
        print(f"{parser.prog}: {MissingExtra(parser.prog, EXTRA_OF[package], package)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; nothing is half-written", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has seen enough. What Python would flush at exit goes nowhere instead of failing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def command(prog: str, description: str, examples: str) -> argparse.ArgumentParser:
    """A parser whose ``--help`` ends with examples and whose ``--version`` works."""
    from lightseg import __version__

    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lightseg {__version__}")
    return parser


def add_model(parser: argparse.ArgumentParser, many: bool = False) -> None:
    """``--model`` and ``--weights``."""
    parser.add_argument(
        "--model",
        metavar="NAME[.TAG]" + ("[,…]" if many else ""),
        help="sinet, extremec3net, c3net, c3netv2 or sinet_cityscapes; the tag names the weights"
        + ("; 'all' means all five" if many else ""),
    )
    parser.add_argument("--weights", metavar="FILE", help="a weights file, or 'random' (seeded, architecture only)")


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        type=_json_file,
        metavar="FILE",
        help="the result as JSON, to FILE or standard output",
    )


def _json_file(text: str) -> str:
    """Not a photograph or an artifact that merely follows ``--json`` and would be written over."""
    path = Path(text)
    if path.is_dir() or (path.is_file() and path.suffix.lower() not in JSON_FILES):
        what = "is a folder" if path.is_dir() else "is no .json file"
        raise argparse.ArgumentTypeError(f"{text} {what}; it would be written over: put --json last, or name another")
    return text


def add_threads(parser: argparse.ArgumentParser, default: int = 1) -> None:
    parser.add_argument("--threads", type=positive, default=default, metavar="N", help=f"default {default}")


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def size(text: str) -> tuple[int, int]:
    """``HxW`` as (height, width)."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(p.isdigit() and int(p) > 0 for p in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, for instance 224x224")
    return int(parts[0]), int(parts[1])


def model_names(text: str | None, default: str) -> list[str]:
    """The models of ``--model a,b.tag`` or ``--model all``."""
    if text == "all":
        from lightseg.zoo import MODELS

        return list(MODELS)
    names = [name for name in (text or default).split(",") if name]
    if text and not names:
        raise BadInput(f"--model {text} names no model; for instance sinet")
    return names


def refuse_unheeded(
    parser: argparse.ArgumentParser, args: argparse.Namespace, mode: str, unheeded: Iterable[str]
) -> None:
    """Exit with status 2 for options that would change nothing in ``mode``: given all the same, they are a mistake."""
    given = [name for name in unheeded if getattr(args, name) != parser.get_default(name)]
    if given:
        words = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        parser.error(f"{mode} takes no notice of {words}; leave out either")


def say(args: argparse.Namespace, text: str, end: str = "\n") -> None:
    """Print at once; nothing where ``--json`` has standard output for itself."""
    if args.json != "-":
        print(text, end=end, flush=True)


def emit_json(where: str | None, data: Any) -> None:
    """Write ``--json``'s result; nothing without the option. To a file atomically."""
    if where is None:
        return
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    if where == "-":
        sys.stdout.write(text)
        return
    from lightseg.files import atomic_path

    with atomic_path(Path(where)) as temporary:
        temporary.write_text(text, encoding="utf-8")
