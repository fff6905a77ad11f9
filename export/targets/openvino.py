"""OpenVINO IR, made from our ONNX graph as a folder of model.xml and model.bin, run by the CPU plugin in float32.

The folder keeps the two files together; it is what other exporters of the format write as well.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightseg.errors import BadInput, Unsupported
from lightseg.export.quantization.scheme import Scheme
from lightseg.export.runner import Runner, wrong_size
from lightseg.export.targets.folder import member, read_record, stamp
from lightseg.export.targets.target import Plan, Target

if TYPE_CHECKING:
    from torch import fx

    from lightseg.export.rewrites import Rewrite

XML, BIN = "model.xml", "model.bin"
FLOATS = ("f64", "f32", "f16", "bf16")
STORAGE = ("Const", "Input", "Output", "Reorder", "Convert")
"""Kinds of layers that keep numbers or move them, and may do so in the type they are stored in."""


def convert(plan: Plan, path: Path) -> None:
    """``compress_to_fp16`` is said both ways: left out, OpenVINO halves the weights of a float32 model unasked."""
    import openvino as ov

    from lightseg.export.targets.onnx import onnx_bytes
    from lightseg.export.writers.half import as_half

    if plan.precision == "fp16":
        for name, weights in plan.graph.named_buffers():
            as_half(name, weights)  # OpenVINO cuts what is beyond the range, without a word
    model = ov.Core().read_model(onnx_bytes(replace(plan, graph=without_gathers(plan.graph))))
    ov.save_model(model, str(path / XML), compress_to_fp16=plan.precision == "fp16")


def without_gathers(graph: fx.GraphModule) -> fx.GraphModule:
    """A copy whose permutations are 1×1 convolutions with ones in the right places.

    OpenVINO 2026.4.1 answers wrongly, and without a word, where a grouped convolution, a gather of channels, a PReLU
    and a convolution follow each other. The five networks lose their gathers to `push_permute`; other graphs may not.
    """
    import torch

    from lightseg.export.graph import ops

    changed = copy.deepcopy(graph)
    for name, op in list(changed.named_children()):
        if isinstance(op, ops.Permute):
            matrix = torch.eye(len(op.index), dtype=torch.float64)[op.index][:, :, None, None]
            setattr(changed, name, ops.Conv(matrix))
    return changed


class OpenVinoRunner(Runner):
    """OpenVINO's CPU plugin, held to float32: by itself it computes in bfloat16 where the processor has it."""

    def __init__(self, path: Path, threads: int) -> None:
        import openvino as ov

        files = [str(member(path, name)) for name in (XML, BIN)]
        asked = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        try:
            core = ov.Core()
            model = core.read_model(*files)
            compiled = core.compile_model(model, "CPU", asked)
        except Exception as error:  # the runtime raises plain RuntimeErrors of several lines
            raise BadInput(f"{path} does not load in OpenVINO: {_last_line(error)}; export it again") from error
        self._request = compiled.create_infer_request()
        extents = compiled.input(0).get_partial_shape()
        self._takes = ["?" if extent.is_dynamic else extent.get_length() for extent in extents]
        self._image = compiled.input(0).get_element_type() == ov.Type.u8
        self._tensor = ov.Tensor
        self.name = "openvino"
        int8 = _int8_layers(compiled) if _is_int8(model) else None
        self.details = {
            "runtime": "openvino",
            "version": ov.get_version().split("-")[0],
            "device": "CPU",
            "weights": _stored(model),
            **_used(compiled, threads),
            **({} if int8 is None else {"int8_layers": str(int8)}),
        }

    def feed(self, x: NDArray[Any]) -> None:
        dtype = np.uint8 if self._image else np.float32
        native = np.array(x.transpose(0, 2, 3, 1) if self._image else x, dtype, order="C")
        if any(want not in ("?", got) for want, got in zip(self._takes, native.shape)):
            raise wrong_size(self._takes, native.shape)
        self._request.set_input_tensor(self._tensor(native))

    def run(self) -> None:
        self._request.infer()

    def fetch(self) -> NDArray[Any]:
        return np.array(self._request.get_output_tensor(0).data)


def _last_line(error: Exception) -> str:
    """What went wrong; the lines above say where in OpenVINO's sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _stored(model: Any) -> str:
    """The types of the floating-point constants in the file."""
    constants = (op.get_output_element_type(0) for op in model.get_ops() if op.get_type_name() == "Constant")
    names = Counter(element.get_type_name() for element in constants if element.is_real())
    return ", ".join(f"{count} in {name}" for name, count in sorted(names.items()))


def _is_int8(model: Any) -> bool:
    return any(op.get_output_element_type(0).get_type_name() == "i8" for op in model.get_ops() if op.get_output_size())


def _int8_layers(compiled: Any) -> int:
    """Convolutions whose kernel computes in eight bits, by what the compiled model says of itself."""
    told = (op.get_rt_info() for op in compiled.get_runtime_model().get_ops())
    kinds = ((info["layerType"].astype(str), info["runtimePrecision"].astype(str)) for info in told)
    return sum(kind == "Convolution" and precision in ("i8", "u8") for kind, precision in kinds)


def _used(compiled: Any, threads: int) -> dict[str, str]:
    """What the compiled model says of itself. Errors: `Unsupported` where that is not what was asked for."""
    hint = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    layers = Counter(_precisions(compiled.get_runtime_model()))
    used = compiled.get_property("INFERENCE_NUM_THREADS")
    if hint != "f32" or set(layers) - {"f32"}:
        raise Unsupported(
            f"OpenVINO computes in {hint} ({dict(layers)} layers) where f32 was asked for; "
            "its answers would not be the file's: use another version (pip install 'lightseg[openvino]')"
        )
    if used != threads:
        raise Unsupported(f"OpenVINO takes {used} threads where {threads} were asked for")
    return {"arithmetic": "float32", "layers": f"{layers['f32']} in f32", "threads": str(used)}


def _precisions(executed: Any) -> Iterator[str]:
    """The floating-point type every layer computes in.

    It stands at the end of the kernel's name (``brgconv_avx512_1x1_f32``); where it does not, the layer's own word
    counts. That alone would not do: a convolution in float32 that reads float16 weights calls itself f16.
    """
    for op in executed.get_ops():
        info = op.get_rt_info()
        kind, kernel, said = (info[key].astype(str) for key in ("layerType", "primitiveType", "runtimePrecision"))
        named = kernel.rsplit("_", 1)[-1]
        precision = named if named in FLOATS else said
        if kind not in STORAGE and precision in FLOATS:
            yield precision


def load(path: Path, threads: int) -> Runner:
    return OpenVinoRunner(path, threads)


def rewrites() -> tuple[Rewrite, ...]:
    """As ONNX Runtime, OpenVINO is slower at PRelu than at max and min.

    Measured on x86, one thread, process-CPU time against PRelu: SINet 0.88, ExtremeC3Net 0.86. `equalise` keeps
    C3Net's weights inside float16.
    """
    from lightseg.export.rewrites import ALWAYS, split_prelu
    from lightseg.export.rewrites.equalise import equalise

    return (*ALWAYS, equalise, split_prelu)


OPENVINO = Target(
    name="openvino",
    suffix=".openvino",
    extra="openvino",
    precisions=("fp32", "fp16", "int8"),
    int8=Scheme(),
    dynamic=True,
    layout="NCHW",
    rewrites=rewrites,
    convert=convert,
    convert_needs=("onnx", "openvino"),
    load=load,
    load_needs=("openvino",),
    stamp=stamp,
    read_record=read_record,
    folder=True,
)
