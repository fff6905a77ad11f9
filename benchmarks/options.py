"""The options of lightseg-bench."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lightseg import cli

EXAMPLES = """\
  lightseg-bench out/sinet-lightseg-fp32.tflite          an artifact, with PyTorch eager beside it
  lightseg-bench --model all --to onnx,tflite --quick    export all five, measure everything, one process per row
  lightseg-bench --model sinet --threads 2 --json r.json raw samples and environment in a file
  lightseg-bench --model all --to all --threads 1,2 --limit 20 --json r.json --resume   long: stop and go on at will
  lightseg-bench a.tflite --against b.tflite             which is faster, beyond this machine's noise
  lightseg-bench a.onnx --against plain                  what our rewrites bring, beside the general converter's file
  lightseg-bench --model sinet --profile                 params, MACs and bytes per layer; nothing is timed
  lightseg-bench --profile out/sinet-lightseg-fp32.onnx  the same, counted again from the file
  lightseg-bench --profile --roofline --model sinet --to onnx    against this machine's limits, operator by operator
  lightseg-bench a.onnx a.tflite --counters              exact counts, instructions too; nothing is timed
  lightseg-bench a.tflite --write-budget budget.json     keep them, and in CI …
  lightseg-bench a.tflite --budget budget.json           … fail when one rises: one line each, exit status 1
  lightseg-bench --device arm64 --setup                  once: ARM runtimes into the user's cache …
  lightseg-bench --device arm64 a.tflite b.onnx          … then agreement on NEON and instructions, no milliseconds
  lightseg-bench --device browser --setup                once: onnxruntime-web and LiteRT.js through npm …
  lightseg-bench --device browser --model sinet          … then agreement and latency in headless Chromium
  lightseg-bench --device cuda --model sinet --to onnx,tensorrt --precision fp32,tf32,fp16 --batch 1,8,64   a GPU …
  lightseg-bench --device cuda --model all --torch compile --graphs on --quick     … one way to run only
  lightseg-bench --device ssh:pi@raspberry a.tflite      the same protocol on another machine, same JSON
  lightseg-bench --device adb:SERIAL a.tflite --benchmark-model benchmark_model   a phone
  lightseg-bench a.tflite --report page --add arm.json   one HTML page, earlier results with it
  lightseg-bench --compare old.json new.json             what changed, and what is noise

Times are of the runtime's call alone ("run"), in fresh pinned processes; load and first inference stand apart.
"""


def parser() -> argparse.ArgumentParser:
    p = cli.command("lightseg-bench", "Measure artifacts and models, or count what they cost.", EXAMPLES)
    p.add_argument("artifact", nargs="*", type=Path, metavar="ARTIFACT", help="files written by lightseg-export")
    cli.add_model(p, many=True)
    p.add_argument("--to", metavar="TARGET[,…]", help="with --model: export first, measure the files too; or all")
    p.add_argument(
        "--precision",
        type=names,
        default=["fp32"],
        metavar="NAME[,…]",
        help="of what --to exports: fp32 (default), fp16; with --device cuda of rows in PyTorch too, and tf32",
    )
    p.add_argument("--out", type=Path, metavar="DIR", help="where --to keeps its artifacts (default: nowhere)")
    p.add_argument("--input-size", type=cli.size, metavar="HxW", help="with --model (default: the published size)")
    add_device(p)
    p.set_defaults(threads=1, thread_counts=[1])
    p.add_argument(
        "--threads", action=ThreadCounts, metavar="N[,…]", help="default 1; with 1,2 every row once with each"
    )
    p.add_argument(
        "--cores", type=core_list, metavar="N[,…]", help="pin to these (default: the quietest, one a thread)"
    )
    add_ways(p)
    add_protocol(p)
    p.add_argument(
        "--images", type=Path, metavar="DIR", help="photographs to rotate through (default: the packaged one)"
    )
    p.add_argument(
        "--peers",
        metavar="NAME[,…]",
        help="other people's networks in the same run: selfie, selfie_landscape (MediaPipe's), any .tflite file; "
        "segformer_b0, mobilevit_xxs by architecture only, with random weights",
    )
    p.add_argument(
        "--against",
        metavar="WHAT",
        help="take turns with an artifact, a peer or a model; or with plain, the general converter's file of the same",
    )
    p.add_argument("--profile", action="store_true", help="count params, MACs and bytes per layer; time nothing")
    p.add_argument(
        "--roofline",
        action="store_true",
        help="with --profile: measure what this machine can do at best, and what every operator takes at least",
    )
    add_counting(p)
    add_remote(p)
    add_reporting(p)
    cli.add_json(p)
    return p


def add_device(p: argparse.ArgumentParser) -> None:
    """Where to measure, and what that place needs."""
    p.add_argument(
        "--device",
        type=device,
        default="cpu",
        metavar="WHERE",
        help="cpu (default); cuda: PyTorch, ONNX Runtime and TensorRT on an NVIDIA GPU; "
        "arm64 emulates an ARM core: agreement, instructions; "
        "browser runs .onnx and .tflite files in Chromium; ssh:USER@HOST[:PORT] and adb:SERIAL measure files there",
    )
    p.add_argument(
        "--setup",
        action="store_true",
        help="with --device arm64 or browser: download what it needs into the user's cache, once",
    )
    p.add_argument(
        "--chromium",
        type=Path,
        metavar="FILE",
        help="with --device browser: which one (default: $LIGHTSEG_CHROMIUM or PATH)",
    )


def add_ways(p: argparse.ArgumentParser) -> None:
    """How networks are run; every combination is a row."""
    group = p.add_argument_group("ways to run, for --device cpu and cuda; every combination is a row")
    group.add_argument("--batch", type=batches, default=[], metavar="N[,…]", help="images at a time (default 1)")
    group.add_argument(
        "--torch",
        type=torch_ways,
        metavar="WAY[,…]",
        help="models in PyTorch: eager, compile (default eager; with --device cuda both)",
    )
    group.add_argument(
        "--graphs", choices=("on", "off", "both"), help="CUDA graphs, with --device cuda only (default both)"
    )


def add_protocol(p: argparse.ArgumentParser) -> None:
    """How long and how often."""
    p.add_argument("--quick", action="store_true", help="200 samples and 2 s in one process, not 500 and 5 s in three")
    p.add_argument("--strict", action="store_true", help="exit with 1 unless every row is PUBLISHABLE; for CI")
    p.add_argument("--samples", type=cli.positive, metavar="N", help="at least this many timed runs in every process")
    p.add_argument("--seconds", type=seconds, metavar="S", help="and at least this long")
    p.add_argument(
        "--processes", type=cli.positive, metavar="N", help="fresh processes per row, or restarts of a comparison"
    )
    p.add_argument("--limit", type=seconds, metavar="S", help="stop sampling a process after this, with fewer samples")
    p.add_argument(
        "--resume", action="store_true", help="go on with the rows that the file of --json does not hold yet"
    )


def add_reporting(p: argparse.ArgumentParser) -> None:
    """Pages and comparisons of results."""
    group = p.add_argument_group("results")
    group.add_argument(
        "--report", type=Path, metavar="DIR", help="also as one HTML page without network, with CSV, Markdown and JSON"
    )
    group.add_argument(
        "--add",
        metavar="FILE[,…]",
        help="earlier --json results for that page: latencies, --counters, --device arm64, lightseg-evaluate's scores",
    )
    group.add_argument(
        "--compare", nargs=2, type=Path, metavar=("OLD", "NEW"), help="two --json results: what changed, what is noise"
    )


def add_remote(p: argparse.ArgumentParser) -> None:
    """A device of its own."""
    group = p.add_argument_group("a device by ssh: or adb:")
    group.add_argument(
        "--remote-python", default="python3", metavar="PROGRAM", help="the Python there (default python3), with NumPy"
    )
    group.add_argument("--remote-dir", metavar="DIR", help="where a folder is made there, and removed at the end")
    group.add_argument(
        "--benchmark-model", type=Path, metavar="FILE", help="LiteRT's program of that name, for a phone without Python"
    )
    group.add_argument("--ssh-config", type=Path, metavar="FILE", help="in place of ~/.ssh/config")


def add_counting(p: argparse.ArgumentParser) -> None:
    """Exact counts instead of times."""
    group = p.add_argument_group("exact counts, for CI; nothing is timed")
    group.add_argument(
        "--counters",
        action="store_true",
        help="params, MACs, operators by kind, casts, delegate partitions, bytes; by valgrind, some 20 s, instructions",
    )
    group.add_argument(
        "--no-instructions", action="store_true", help="leave them out: the rest takes a second, the same everywhere"
    )
    group.add_argument(
        "--budget",
        type=Path,
        metavar="FILE",
        help="count, and fail with a line for every count above the one in this JSON file (its schema: "
        "python -m pydoc lightseg.benchmarks.counting.budget)",
    )
    group.add_argument(
        "--write-budget", type=Path, metavar="FILE", help="count, and make or update that file; other entries stay"
    )


class ThreadCounts(argparse.Action):
    """``thread_counts`` holds all of them, ascending; ``threads`` the first, for modes that take one."""

    def __call__(self, parser: argparse.ArgumentParser, space: argparse.Namespace, text: Any, _: Any = None) -> None:
        counts = sorted({int(part) if part.isdigit() else 0 for part in text.split(",")})
        if counts[0] < 1:
            parser.error(f"argument --threads: {text!r} is not a list of positive numbers, for instance 1,2")
        space.thread_counts, space.threads = counts, counts[0]


DEVICES = ("cpu", "cuda", "arm64", "browser")
REMOTE = ("ssh:", "adb:")
"""What an address of a device begins with."""


def device(text: str) -> str:
    if text in DEVICES or text.startswith(REMOTE):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(DEVICES)}, ssh:USER@HOST, adb:SERIAL")


def names(text: str) -> list[str]:
    """Words between commas, each once."""
    return list(dict.fromkeys(word for word in text.split(",") if word))


def torch_ways(text: str) -> list[str]:
    found = names(text)
    if not found or not set(found) <= {"eager", "compile"}:
        raise argparse.ArgumentTypeError(f"{text!r} is none of eager, compile, or both with a comma")
    return found


def batches(text: str) -> list[int]:
    found = [int(part) if part.isdigit() else 0 for part in text.split(",")]
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of positive numbers, for instance 1,8,32")
    return sorted(set(found))


def seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 3600 seconds")
    return value


def core_list(text: str) -> list[int]:
    if not all(part.isdigit() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of core numbers, for instance 0,1")
    return sorted({int(part) for part in text.split(",")})
