"""The vendor's package: loading it, and its parser's reading of a graph, with what it says caught and put in one line.

TensorRT-RTX and TensorRT have one Python API under two names, so the module is a parameter everywhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from lightseg.errors import BadInput, Unsupported

NOISE = ("Thread context has not been set", "cudaError 35", "is unsupported in TensorRT-RTX", "CUDA lazy loading")
"""Parts of messages that say only that there is no driver, or nothing at all."""
SOURCE = re.compile(r"\s*\(?In \w+ at /?[\w./-]+:\d+\)?|\s*In \w+ at [\w./-]+:\d+|ModelImporter\.cpp:\d+:?")
REASON = re.compile(r"^.*?Error Code \d+: [^(]*\((?:Parameter check failed, condition: [^.]*\. )?(.+?)\)?$")
"""What stands in the brackets behind a number nobody knows by heart."""
ERRORS = ("INTERNAL_ERROR", "ERROR")


def vendor(module: str) -> Any:
    """The module. Errors: `Unsupported` where it is installed and does not load."""
    try:
        return import_module(module)
    except (ImportError, OSError, RuntimeError) as error:
        raise Unsupported(
            f"{module} is installed but does not load ({_first_line(str(error))}); install it whole from NVIDIA's "
            "package index, or use --to tensorrt_rtx"
        ) from error


@dataclass
class Said:
    """What the library said, oldest first, as (severity, text)."""

    lines: list[tuple[str, str]] = field(default_factory=list)

    def errors(self) -> list[str]:
        kept = [text for severity, text in self.lines if severity in ERRORS]
        return [one_line(text) for text in kept if not any(noise in text for noise in NOISE)]


def logger(trt: Any, said: Said) -> Any:
    """A logger that writes nothing and keeps everything in ``said``."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            said.lines.append((severity.name, text))

    return Log()


@dataclass(frozen=True)
class Parsed:
    """A network and all it hangs on: the library crashes where the builder, the parser or the bytes are collected."""

    trt: Any
    network: Any
    builder: Any
    said: Said
    kept: tuple[Any, ...]


def parse(module: str, data: bytes, what: str) -> Parsed:
    """``data``, an ONNX model, as the vendor's parser understands it: strongly typed.

    Errors: `BadInput` with the node and the reason where the parser refuses.
    """
    trt = vendor(module)
    said = Said()
    log = logger(trt, said)
    builder = trt.Builder(log)
    if builder is None:
        raise Unsupported(f"{module} makes no builder on this machine: {'; '.join(said.errors()) or 'no reason given'}")
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(data):
        raise BadInput(f"{what}: {module} {trt.__version__} refuses {_refusal(parser)}; export it again")
    return Parsed(trt, network, builder, said, (log, parser, data))


def _strongly_typed(trt: Any) -> int:
    """The flag; where it is gone every network is."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _refusal(parser: Any) -> str:
    if not parser.num_errors:
        return "the graph without a reason"
    error = parser.get_error(0)
    named = " ".join(filter(None, (error.node_operator(), error.node_name())))
    return f"{named or 'the file'}: {one_line(error.desc())}"


def one_line(text: str) -> str:
    """The reason in a message of several lines: without places in the vendor's sources and what follows from it."""
    lines = [SOURCE.sub("", line).strip(" .\n") for line in text.splitlines()]
    lines = [line for line in lines if line and not any(noise in line for noise in NOISE)]
    kept = [line for line in lines if not line.startswith("Invalid Node")] or lines or ["no reason given"]
    said = REASON.match(kept[0])
    return (said[1] if said else kept[0]).strip(" .")


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "no reason given"
