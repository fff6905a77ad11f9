"""TFLite, written directly from the intermediate form, run by LiteRT with its XNNPACK delegate."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightseg.errors import BadInput
from lightseg.export.artifact import METADATA_NAME
from lightseg.export.quantization.scheme import Scheme
from lightseg.export.runner import Runner, wrong_size
from lightseg.export.targets.target import Plan, Runtime, Target
from lightseg.export.targets.xnnpack import PRICE

if TYPE_CHECKING:
    from lightseg.export.rewrites import Rewrite

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


def convert(plan: Plan, path: Path) -> None:
    from lightseg.export.writers.tflite import write_tflite

    half = plan.precision == "fp16"
    path.write_bytes(write_tflite(plan.graph, plan.file_input_shape, "image", plan.output, half))


class LiteRtRunner(Runner):
    """LiteRT's interpreter; the default delegate is XNNPACK."""

    name, package, said = "litert", "ai-edge-litert", "LiteRT"

    def __init__(self, path: Path, threads: int) -> None:
        open_file, version = self._package()
        try:
            self._interpreter = open_file(model_path=str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise BadInput(f"{path} does not load in {self.said}: {str(error).splitlines()[0]}") from error
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]
        delegated = [op for op in self._operations() if op["op_name"] == "DELEGATE"]
        self.details = {
            "runtime": self.package,
            "version": version,
            "delegate": "XNNPACK" if delegated else "none",
            "partitions": str(len(delegated)),
            **self._numbers(),
            "threads": str(threads),
        }

    def _package(self) -> tuple[Callable[..., Any], str]:
        """What opens a file, and its version."""
        import ai_edge_litert
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter, ai_edge_litert.__version__

    def _numbers(self) -> dict[str, str]:
        """What weights are stored as and what is computed in. XNNPACK makes float32 of float16 weights once, before
        the first image; of int8 tensors no kernel makes anything else."""
        kinds = {tensor["index"]: tensor["dtype"] for tensor in self._interpreter.get_tensor_details()}
        if not any(kind is np.int8 for kind in kinds.values()):
            halves = any(kind is np.float16 for kind in kinds.values())
            return {"weights": "float16" if halves else "float32", "arithmetic": "float32"}
        read = [kinds[op["inputs"][0]] for op in self._operations() if op["op_name"] in CONVOLUTIONS]
        int8 = sum(kind is np.int8 for kind in read)
        named = "int8" if int8 == len(read) else "int8 and float32"
        return {"weights": named, "arithmetic": named, "int8_layers": str(int8)}

    def _operations(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._interpreter._get_ops_details()
        return found

    def feed(self, x: NDArray[Any]) -> None:
        native = np.ascontiguousarray(x.transpose(0, 2, 3, 1), self._input["dtype"])
        if tuple(native.shape) != tuple(self._input["shape"]):
            n, h, w, c = self._input["shape"]
            raise wrong_size((n, c, h, w), x.shape)
        self._interpreter.set_tensor(self._input["index"], native)

    def run(self) -> None:
        self._interpreter.invoke()

    def fetch(self) -> NDArray[Any]:
        result: NDArray[Any] = self._interpreter.get_tensor(self._output["index"]).transpose(0, 3, 1, 2)
        return result


class TensorFlowRunner(LiteRtRunner):
    """The interpreter inside TensorFlow: another build of the same format's runtime, as a second opinion."""

    name, package, said = "tensorflow", "tensorflow", "TensorFlow"

    def _package(self) -> tuple[Callable[..., Any], str]:
        """TensorFlow warns that its interpreter moves to LiteRT, which is the first opinion."""
        import tensorflow as tf

        def opened(**options: Any) -> Any:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return tf.lite.Interpreter(**options)

        return opened, tf.__version__


def load(path: Path, threads: int) -> Runner:
    return LiteRtRunner(path, threads)


def load_in_tensorflow(path: Path, threads: int) -> Runner:
    return TensorFlowRunner(path, threads)


def stamp(path: Path, text: str) -> None:
    from lightseg.export.writers.flatbuffer import with_metadata

    path.write_bytes(with_metadata(path.read_bytes(), METADATA_NAME, text))


def read_record(path: Path) -> str | None:
    from lightseg.export.writers.flatbuffer import metadata

    data = path.read_bytes()
    if data[4:8] != b"TFL3":
        raise BadInput(f"{path} is not a TFLite file; export it again")
    try:
        return metadata(data, METADATA_NAME)
    except Exception as error:  # a damaged offset table fails in many ways
        raise BadInput(f"{path} is not a readable TFLite file ({type(error).__name__}); export it again") from error


def rewrites() -> tuple[Rewrite, ...]:
    """XNNPACK is fast at PRELU, slow at TRANSPOSE_CONV, at few channels, and between its depthwise kernels' sizes.

    Measured on x86, one thread: `split_depthwise` takes C3NetV2 to 0.43 of the time and ExtremeC3Net to 0.95,
    `deconv_to_depth` C3Net to 0.96 and the street SINet to 0.89, `late_concat` the street SINet to 0.94 and SINet to
    0.98 (C3Net and C3NetV2 stay), `pack_columns` SINet to 0.9 (gathering in front of the stretching 0.96 more),
    `by_rows` SINet to 0.92 and ExtremeC3Net to 0.89 (on large maps too, the street SINet would take 1.07),
    `widen_gate` and `affine_as_depthwise` SINet to 0.97 and 0.98; `merge_cross` saves a pass over memory. Max and min
    in place of PRELU would cost 1.15; duplicating a squeeze module's reduced map, so that both branches are one
    convolution without a concatenation, 1.12. `dense_groups` costs the street SINet 1.05, and is what lets it run on
    a GPU. `equalise` keeps C3Net's weights inside float16; in float32 it changes no product.
    """
    from lightseg.export import rewrites as r
    from lightseg.export.rewrites.equalise import equalise

    lanes = (r.late_concat, r.pack_columns, r.widen_gate, r.by_rows, r.split_depthwise, r.affine_as_depthwise)
    return (*r.ALWAYS, r.merge_cross, r.dense_groups, r.deconv_to_depth, equalise, *lanes)


TFLITE = Target(
    name="tflite",
    suffix=".tflite",
    extra="tflite",
    precisions=("fp32", "fp16", "int8"),
    int8=Scheme(outputs=True, price=PRICE),
    dynamic=False,
    layout="NHWC",
    rewrites=rewrites,
    convert=convert,
    convert_needs=("ai_edge_litert",),
    load=load,
    load_needs=("ai_edge_litert",),
    second_opinions={"tensorflow": Runtime(load_in_tensorflow, ("tensorflow",), "tensorflow")},
    stamp=stamp,
    read_record=read_record,
)
