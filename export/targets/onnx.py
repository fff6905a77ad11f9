"""ONNX, written directly from the intermediate form, run by ONNX Runtime.

fp16 means weights stored in half: the arithmetic is float32, as ONNX Runtime's CPU provider computes float16 nowhere
well. It turns 164 of 165 float16 constants of a SINet in float16 throughout back to float32 when it loads it (1.31.1 on
x86), and on processors that have float16 it refuses the average pool (opset 20) or returns NaN (opset 18).
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightseg.errors import BadInput
from lightseg.export.artifact import METADATA_NAME
from lightseg.export.quantization.scheme import Scheme
from lightseg.export.runner import Runner, wrong_size
from lightseg.export.targets.target import Plan, Target
from lightseg.export.writers.onnx_metadata import metadata, operations, weights

if TYPE_CHECKING:
    from lightseg.export.rewrites import Rewrite


def convert(plan: Plan, path: Path) -> None:
    """Softmax in steps takes the street SINet to 0.81: ONNX Runtime takes 54 ms for 19 channels at 256×512."""
    from lightseg.export.writers.onnx_half import with_half_weights

    data = onnx_bytes(plan, softmax_in_steps=True)
    path.write_bytes(with_half_weights(data) if plan.precision == "fp16" else data)


def onnx_bytes(plan: Plan, softmax_in_steps: bool = False, signed: bool = False) -> bytes:
    """The plan's graph as an ONNX model, for this target and for others that read ONNX; see `write_onnx`."""
    from lightseg.export.writers.onnx import write_onnx

    in_shape: list[int | str] = list(plan.file_input_shape)
    out_shape: list[int | str] = list(plan.output_shape)
    if plan.dynamic:
        height = 1 if plan.baked else 2
        in_shape[0], in_shape[height], in_shape[height + 1] = "batch", "height", "width"
        out_shape[0], out_shape[2], out_shape[3] = "batch", "out_height", "out_width"
    return write_onnx(plan.graph, in_shape, out_shape, "image", plan.output, softmax_in_steps, signed)


class OnnxRunner(Runner):
    """ONNX Runtime on the CPU, with inputs and outputs bound to buffers that live as long as the shape."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        data = path.read_bytes()
        int8 = b"QuantizeLinear" in data
        try:
            with tempfile.TemporaryDirectory() as folder:
                optimised = Path(folder) / "optimised.onnx"
                if int8:
                    options.optimized_model_filepath = str(optimised)
                self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
                ran = Counter(operations(optimised.read_bytes())) if int8 else Counter()
        except Exception as error:  # the runtime raises a family of its own types
            raise BadInput(f"{path} does not load in ONNX Runtime: {str(error).splitlines()[0]}") from error
        self._ort = ort
        self._input, self._output = self._session.get_inputs()[0], self._session.get_outputs()[0]
        self._image = self._input.type == "tensor(uint8)"
        self._binding = self._session.io_binding()
        self._x: Any = None
        self.name = "onnxruntime"
        self.details = {
            "runtime": "onnxruntime",
            "version": ort.__version__,
            "provider": ",".join(self._session.get_providers()),
            **({} if int8 else _numbers(data)),
            "threads": str(threads),
            **({"int8_layers": str(ran["QLinearConv"])} if int8 else {}),
        }

    def feed(self, x: NDArray[Any]) -> None:
        native = (
            np.ascontiguousarray(x.transpose(0, 2, 3, 1), np.uint8)
            if self._image
            else np.ascontiguousarray(x, np.float32)
        )
        if any(isinstance(want, int) and want != got for want, got in zip(self._input.shape, native.shape)):
            raise wrong_size(self._input.shape, native.shape)
        if self._x is None or list(self._x.shape()) != list(native.shape):
            self._x = self._ort.OrtValue.ortvalue_from_numpy(native.copy())
            self._binding.bind_ortvalue_input(self._input.name, self._x)
            self._binding.bind_output(self._output.name)
        else:
            self._x.update_inplace(native)

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def fetch(self) -> NDArray[Any]:
        result: NDArray[Any] = self._binding.get_outputs()[0].numpy()
        return result


def _numbers(data: bytes) -> dict[str, str]:
    """What the weights are stored as; what is computed in, the checked types of a graph without float16 values say."""
    stored = Counter(weights(data))
    return {"weights": ", ".join(f"{count} in {kind}" for kind, count in sorted(stored.items()))}


def load(path: Path, threads: int) -> Runner:
    return OnnxRunner(path, threads)


def stamp(path: Path, text: str) -> None:
    from lightseg.export.writers.onnx import with_metadata

    path.write_bytes(with_metadata(path.read_bytes(), METADATA_NAME, text))


def read_record(path: Path) -> str | None:
    try:
        return metadata(path.read_bytes(), METADATA_NAME)
    except ValueError as error:
        raise BadInput(f"{path} is not a readable ONNX file ({type(error).__name__}); export it again") from error


def rewrites() -> tuple[Rewrite, ...]:
    """ONNX Runtime's PRelu takes as long as all convolutions together; ReLU folded into one and a sum do not.

    Measured on x86, one thread: PReLU as max and min in place of PRelu takes SINet to 0.60 of the time, ExtremeC3Net to
    0.88, C3Net to 0.83, C3NetV2 to 0.85; `blend_prelu`, which stays in the layout of its convolutions, the portrait
    networks to 0.80 and 0.92 of that, and C3Net to 0.95 once more as it takes norms along; `fill_lanes` ExtremeC3Net to
    0.74; `late_concat` and `turn_steep` the street SINet to 0.91 and C3NetV2 to 0.91, `even_channels` C3NetV2 to 0.88
    of that; `dense_groups`, which lets `fill_lanes` reach 30, 42 and 54 channels, the street SINet to 0.86, and with
    `concat_as_sum` to 0.77. max(x, a x) is 0.92 of max and min. Depth to space in place of ConvTranspose was slower
    (C3Net 1.16). `equalise` keeps C3Net's weights inside float16.
    """
    from lightseg.export import rewrites as r
    from lightseg.export.rewrites.equalise import equalise

    layout = (r.dense_groups, r.concat_as_sum, r.late_concat, r.even_channels, r.fill_lanes)
    return (*r.ALWAYS, equalise, *layout, r.turn_steep, r.blend_prelu)


ONNX = Target(
    name="onnx",
    suffix=".onnx",
    extra="onnx",
    precisions=("fp32", "fp16", "int8"),
    int8=Scheme(outputs=True),
    dynamic=True,
    layout="NCHW",
    rewrites=rewrites,
    convert=convert,
    convert_needs=("onnx",),
    load=load,
    load_needs=("onnxruntime",),
    stamp=stamp,
    read_record=read_record,
)
