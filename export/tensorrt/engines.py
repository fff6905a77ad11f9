"""Engines compiled ahead of time, each for one compute capability or portable, with the record of what was made."""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import asdict, dataclass
from typing import Any

from lightseg.errors import BadInput, Unsupported
from lightseg.export.tensorrt.listing import check_precision, quantised, rows_in, summary
from lightseg.export.tensorrt.network import walk
from lightseg.export.tensorrt.timing import cache_path, read_timings, write_timings
from lightseg.export.tensorrt.vendor import Parsed, parse

PORTABLE, HERE = "portable", "this-gpu"
"""One engine for every GPU the compiler knows from Ampere on; one for the GPU at hand."""
CAPABILITY = re.compile(r"\d+\.\d")


@dataclass(frozen=True)
class Engine:
    """One compiled engine, as the sidecar describes it."""

    capability: str
    """``portable``, or a compute capability as NVIDIA writes it: ``8.6``."""
    file: str
    version: str
    """Of the compiler; no other version loads it."""
    bytes: int
    sha256: str
    seconds: float
    tf32: bool
    """Whether float32 may be cut to the 10 bits of TF32 on the device; the vendor's default is yes, ours no."""
    listing: dict[str, Any]
    """`summary` of the compiler's own list of layers."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compile_engine(module: str, data: bytes, capability: str, what: str) -> tuple[bytes, Engine]:
    """The serialized engine of the ONNX model ``data``.

    Errors: `Unsupported` where the compiler refuses the capability or the network, or computes in other types than the
    network's; `BadInput` for a word that is no capability.
    """
    parsed = parse(module, data, what)
    network = walk(parsed, what)
    config, timings = _config(parsed, capability), cache_path(module, parsed.trt.__version__)
    read_timings(config, timings)
    start = time.perf_counter()
    plan = parsed.builder.build_serialized_network(parsed.network, config)
    seconds = time.perf_counter() - start
    if plan is None:
        raise Unsupported(f"{_who(parsed)} does not compile {what} for {capability}: {_why(parsed)}")
    write_timings(config, timings)
    content = bytes(plan)
    rows = rows_in(text for _, text in parsed.said.lines)
    check_precision(rows, network, f"{what} for {capability}")
    listing = summary(rows, network)
    if listing["int8 convolutions"] < len(quantised(network)):
        raise Unsupported(
            f"{_who(parsed)} computes {listing['int8 convolutions']} of {len(quantised(network))} int8 convolutions of "
            f"{what} in eight bits for {capability}: it would be int8 in name only; leave that capability"
        )
    engine = Engine(
        capability=capability,
        file=file_name(capability, network.version),
        version=network.version,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        seconds=round(seconds, 2),
        tf32=config.get_flag(parsed.trt.BuilderFlag.TF32),
        listing=listing,
    )
    return content, engine


def file_name(capability: str, version: str) -> str:
    key = "sm" + capability.replace(".", "") if CAPABILITY.fullmatch(capability) else capability
    return f"{key}-{version}.engine"


def check_word(capability: str) -> None:
    """Errors: `BadInput` for what is no capability."""
    if capability not in (PORTABLE, HERE) and not CAPABILITY.fullmatch(capability):
        raise BadInput(
            f"{capability!r} is no compute capability; write it as NVIDIA does, for instance 8.6, or portable"
        )


def _config(parsed: Parsed, capability: str) -> Any:
    """TF32, which the vendor switches on unasked, goes off: float32 was asked for, not 10 bits of it."""
    trt = parsed.trt
    config = parsed.builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.clear_flag(trt.BuilderFlag.TF32)
    check_word(capability)
    _aim(parsed, config, capability)
    return config


def _aim(parsed: Parsed, config: Any, capability: str) -> None:
    """One capability; a compiler that can choose has a portable engine when it is told nothing."""
    kinds, known = getattr(parsed.trt, "ComputeCapability", None), capabilities(parsed.trt)
    if kinds is None:
        if capability != HERE:
            raise Unsupported(f"{_who(parsed)} compiles for the GPU at hand only; leave --capability")
    elif capability != PORTABLE:
        number = None if capability == HERE else int(capability.replace(".", ""))
        config.num_compute_capabilities = 1
        if not config.set_compute_capability(kinds.CURRENT if number is None else kinds(number), 0):
            raise Unsupported(
                f"{_who(parsed)} refuses compute capability {capability}: {_why(parsed)}; it has {', '.join(known)}"
            )


def capabilities(trt: Any) -> dict[str, Any]:
    """What the module can be asked to compile for, by NVIDIA's name."""
    members = getattr(getattr(trt, "ComputeCapability", None), "__members__", {})
    return {f"{name[2:-1]}.{name[-1]}": member for name, member in members.items() if name.startswith("SM")}


def _who(parsed: Parsed) -> str:
    return f"{parsed.trt.__name__} {parsed.trt.__version__}"


def _why(parsed: Parsed) -> str:
    errors = parsed.said.errors()
    return errors[-1] if errors else "it gives no reason"
