"""The folder of an artifact: the typed network, the engines compiled from it, and the record of both."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightseg.errors import BadInput
from lightseg.export.targets.folder import member
from lightseg.export.tensorrt.engines import Engine, compile_engine
from lightseg.export.tensorrt.listing import quantised
from lightseg.export.tensorrt.network import read_network

NETWORK, BUILD = "network.onnx", "build.json"


@dataclass(frozen=True)
class Build:
    """What the vendor's package made of a network."""

    parser: str
    """Module and version that read the network."""
    layers: dict[str, int]
    """Layers of the network as parsed, by kind."""
    quantised: int
    """Convolutions of the network that are int8."""
    engines: tuple[Engine, ...]

    @property
    def int8_layers(self) -> int:
        """Convolutions that are int8 in the network and in every engine."""
        return min([self.quantised, *(int(engine.listing["int8 convolutions"]) for engine in self.engines)])

    def to_dict(self) -> dict[str, Any]:
        engines = [engine.to_dict() for engine in self.engines]
        return {"parser": self.parser, "layers": self.layers, "quantised": self.quantised, "engines": engines}


def write_build(module: str, data: bytes, capabilities: Sequence[str], folder: Path) -> None:
    """Fill ``folder``. Errors: those of `read_network` and `compile_engine`."""
    what = "the network"
    network = read_network(module, data, what)
    (folder / NETWORK).write_bytes(data)
    engines = []
    for capability in capabilities:
        content, engine = compile_engine(module, data, capability, what)
        (folder / engine.file).write_bytes(content)
        engines.append(engine)
    kinds = Counter(step.kind for step in network.steps)
    layers = dict(sorted(kinds.items()))
    build = Build(f"{module} {network.version}", layers, len(quantised(network)), tuple(engines))
    (folder / BUILD).write_text(json.dumps(build.to_dict(), indent=1) + "\n", encoding="utf-8")


def read_build(folder: Path) -> Build:
    """The record, after every engine has been held against it. Errors: `BadInput`."""
    path = member(folder, BUILD)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        engines = tuple(Engine(**engine) for engine in data["engines"])
        build = Build(data["parser"], data["layers"], data["quantised"], engines)
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is damaged ({type(error).__name__}: {error}); export it again") from error
    for engine in build.engines:
        _check(member(folder, engine.file), engine)
    return build


def _check(path: Path, engine: Engine) -> None:
    """The library may crash on an engine that is not whole, so that none but the one compiled is handed to it."""
    if hashlib.sha256(path.read_bytes()).hexdigest() != engine.sha256:
        raise BadInput(f"{path} is not the engine {BUILD} describes (sha256 differs); export it again")
