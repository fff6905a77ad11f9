"""Networks written by the format's general converter: those our writers do not know, and any with ``--plain``."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import fx, nn

from lightseg.errors import Unsupported
from lightseg.export.graph import ops
from lightseg.export.graph.edit import add_op
from lightseg.export.reference import Reference
from lightseg.export.targets import Plan, Target
from lightseg.export.writers import general as convert_with
from lightseg.zoo import SegmentationModel

if TYPE_CHECKING:
    from lightseg.export.pipeline import Request


@dataclass(frozen=True)
class General:
    """Somebody else's converter of whole networks."""

    name: str
    extra: str
    needs: tuple[str, ...]
    convert: Callable[[Plan, Path], None]
    bakes: bool = True
    """Whether it can put the preprocessing of uint8 images in front."""


GENERAL: dict[str, General] = {
    "onnx": General("torch.onnx's dynamo exporter", "onnx", ("onnx", "onnxscript"), convert_with.to_onnx),
    "tflite": General("litert-torch", "litert-torch", ("litert_torch",), convert_with.to_tflite),
    "coreml": General("coremltools' torch front end", "coreml", ("coremltools",), convert_with.to_coreml, bakes=False),
    "openvino": General(
        "torch.onnx's dynamo exporter", "onnx,openvino", ("onnx", "onnxscript", "openvino"), convert_with.to_openvino
    ),
    "ncnn": General("pnnx", "pnnx", ("pnnx",), convert_with.to_ncnn, bakes=False),
}
"""By target. One that is not here has none that can live in this environment."""

log = logging.getLogger(__name__)


def writer_for(target: Target, reference: Reference, request: Request) -> tuple[Target, Reference, dict[str, Any]]:
    """``target`` and ``reference`` as they are; with the general converter in place for a network outside our set.

    Then one line is logged as a warning (which Python prints on standard error unless told otherwise). It is in place
    for any network whose request is ``plain``. The last value holds what the artifact's record says of it.

    Errors: `Unsupported` where there is no such converter, it is not installed, or cannot do what is asked.
    """
    outside = _outside(reference)
    if not (outside or request.plain):
        return target, reference, {}
    general = _able(target, request, outside)
    if outside:
        log.warning(
            "%s to %s: %s; %s writes it, without our rewrites", reference.model.name, target.name, outside, general.name
        )
    other = copy.copy(reference)
    other.graph = as_one(reference.model, reference.size)
    swapped = replace(target, convert=general.convert, convert_needs=general.needs, rewrites=lambda: ())
    return swapped, other, {"writer": "general", "outside": outside}


def _outside(reference: Reference) -> str:
    """What our writers do not know in the network; empty for none."""
    try:
        reference.graph  # noqa: B018 - captured here, kept there
    except Unsupported as reason:
        return str(reason)
    return ""


def _able(target: Target, request: Request, outside: str) -> General:
    why = f"{outside}, and" if outside else "--plain:"
    general = GENERAL.get(target.name)
    if general is None:
        raise Unsupported(f"{why} {target.name} has no general converter here; use --to {', '.join(GENERAL)}")
    absent = [module for module in general.needs if find_spec(module) is None]
    if absent:
        raise Unsupported(
            f"{why} {general.name}, which would write it, needs {absent[0]}: pip install 'lightseg[{general.extra}]'"
        )
    wanted = [word for word, asked in _beyond(general, request).items() if asked]
    if wanted:
        raise Unsupported(f"{why} {general.name} writes it without {wanted[0]} only")
    return general


def _beyond(general: General, request: Request) -> dict[str, bool]:
    return {
        f"--precision {request.precision}": request.precision != "fp32",
        "--dynamic": request.dynamic,
        "--preprocess baked": request.preprocess == "baked" and not general.bakes,
    }


def as_one(model: SegmentationModel, size: tuple[int, int]) -> fx.GraphModule:
    """The network as a float64 graph of one operation, to put a head and preprocessing around."""
    spec = model.spec
    network = copy.deepcopy(model.net).double().eval()
    root, graph = nn.Module(), fx.Graph()
    name = add_op(root, "network", ops.Whole(network, spec.channels, spec.output_stride))
    graph.output(graph.call_module(name, (graph.placeholder("image"),)))
    module = fx.GraphModule(root, graph, "Whole").eval()
    module.meta |= {"input_shape": (1, 3, *size), "multiple": spec.multiple}
    return module
