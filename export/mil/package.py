"""The .mlpackage folder: Manifest.json, the model's protobuf, weight.bin."""

from __future__ import annotations

import importlib.util
import json
import sys
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from lightseg.errors import BadInput

MANIFEST = "Manifest.json"
PRIVATE_NAME = "_lightseg_coreml_schema"


@cache
def schema() -> Any:
    """The classes of Core ML's protobuf (module ``Model_pb2``), without the seconds the package around them takes."""
    loaded = sys.modules.get("coremltools.proto")
    return (loaded or _load_alone()).Model_pb2


def _load_alone() -> ModuleType:
    """coremltools/proto imports nothing of its parent, so it can stand under another name."""
    parent = importlib.util.find_spec("coremltools")
    assert parent is not None and parent.submodule_search_locations, "callers check that coremltools is installed"
    folder = Path(parent.submodule_search_locations[0], "proto")
    spec = importlib.util.spec_from_file_location(
        PRIVATE_NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[PRIVATE_NAME] = module
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Package:
    """A saved package: its folder, where its parts lie, and the parsed model."""

    folder: Path
    model_file: Path
    weights: Path | None
    """The folder ``@model_path/weights`` of the program; None where the manifest lists none."""
    model: Any

    def save_model(self) -> None:
        """Write the parsed model back; equal models give equal bytes."""
        self.model_file.write_bytes(self.model.SerializeToString(deterministic=True))


def read_package(folder: Path) -> Package:
    """Errors: `BadInput` in one line for everything that is not a readable package."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        items = {key: PurePosixPath(item["path"]) for key, item in manifest["itemInfoEntries"].items()}
        model_file = _inside(folder, items[manifest["rootModelIdentifier"]])
        weights = next((_inside(folder, path) for path in items.values() if path.name == "weights"), None)
        data = model_file.read_bytes()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{folder} is not a readable .mlpackage ({type(error).__name__}: {error}); export it again"
        ) from error
    return Package(folder, model_file, weights, _parse(folder, data))


def _inside(folder: Path, item: PurePosixPath) -> Path:
    if item.is_absolute() or ".." in item.parts:
        raise ValueError(f"the manifest points outside the package: {item}")
    return folder / "Data" / item


def _parse(folder: Path, data: bytes) -> Any:
    model = schema().Model()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf's errors share no public base
        raise BadInput(f"{folder}: its model is damaged ({type(error).__name__}); export it again") from error
    if model.WhichOneof("Type") != "mlProgram":
        raise BadInput(f"{folder} holds no ML Program (found {model.WhichOneof('Type')}); export it again")
    return model


@dataclass(frozen=True)
class Interface:
    """What the model says it takes and gives: the names of both, and the input as N×3×H×W."""

    input: str
    shape: tuple[int, ...]
    image: bool
    """Whether Core ML is given an RGB image."""
    output: str


def interface(folder: Path) -> Interface:
    """Errors: `BadInput`."""
    description = read_package(folder).model.description
    if len(description.input) != 1 or len(description.output) != 1:
        raise BadInput(f"{folder} does not take one image and give one answer; export it again")
    given = description.input[0]
    image = given.type.WhichOneof("Type") == "imageType"
    size = given.type.imageType
    shape = (1, 3, size.height, size.width) if image else tuple(given.type.multiArrayType.shape)
    return Interface(given.name, shape, image, description.output[0].name)


def int8_convolutions(folder: Path) -> int:
    """Convolutions that read a dequantised value and dequantised weights. Errors: `BadInput`."""
    program = read_package(folder).model.mlProgram
    made: dict[str, str] = {}
    found = 0
    for function in program.functions.values():
        for block in function.block_specializations.values():
            for operation in block.operations:
                made |= dict.fromkeys((output.name for output in operation.outputs), operation.type)
                if operation.type == "conv":
                    x, weight = (made.get(operation.inputs[k].arguments[0].name) for k in ("x", "weight"))
                    found += x == "dequantize" and weight == "constexpr_affine_dequantize"
    return found


def settle(folder: Path) -> None:
    """Take out of a fresh package what differs from run to run: random identifiers, the date, the order of maps."""
    path = folder / MANIFEST
    text = path.read_text(encoding="utf-8")
    for key, item in json.loads(text)["itemInfoEntries"].items():
        text = text.replace(key, str(uuid.uuid5(uuid.NAMESPACE_URL, item["path"])).upper())
    path.write_text(json.dumps(json.loads(text), indent=4, sort_keys=True) + "\n", encoding="utf-8")
    package = read_package(folder)
    package.model.description.metadata.userDefined.pop("com.github.apple.coremltools.conversion_date", None)
    package.save_model()


def stored_text(folder: Path, name: str) -> str | None:
    """The user metadata ``name``; None where there is none."""
    metadata = read_package(folder).model.description.metadata.userDefined
    text: str | None = metadata.get(name)
    return text


def store_text(folder: Path, name: str, text: str) -> None:
    package = read_package(folder)
    package.model.description.metadata.userDefined[name] = text
    package.save_model()
