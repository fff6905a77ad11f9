"""ncnn, written directly from the intermediate form as a folder of model.param and model.bin, run by its CPU library.

Both files are needed and neither names the other, so the artifact is the folder: it is replaced as one, hashed as one,
and is what other exporters hand to phones as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightseg.errors import BadInput, ParityError
from lightseg.export.quantization.scheme import Products, Scheme
from lightseg.export.runner import Runner, wrong_size
from lightseg.export.targets.folder import member, read_record, stamp
from lightseg.export.targets.target import Plan, Target

if TYPE_CHECKING:
    from lightseg.export.rewrites import Rewrite
    from lightseg.export.writers.ncnn_weights import Line

PARAM, BIN = "model.param", "model.bin"
AS_IT_IS = 1
"""Asks an extractor for a blob in the type it is kept in; otherwise it comes as float32."""
PRODUCTS = Products(dense=2.0**-20, depthwise=2.0**-11)
"""Sums are exact in int32, then multiplied in float32. Depthwise kernels for packed channels divide by the scales with
x86's approximate reciprocal, which is off by up to 1.5 · 2⁻¹²."""
WIDE = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage", "use_bf16_packed")
"""Options that would let ncnn compute or keep values in fewer bits where the processor can; all are switched off."""


def convert(plan: Plan, path: Path) -> None:
    from lightseg.export.writers.ncnn import write_ncnn

    text, weights = write_ncnn(plan.graph, plan.file_input_shape, plan.output, plan.precision == "fp16")
    (path / PARAM).write_text(text, encoding="utf-8", newline="\n")
    (path / BIN).write_bytes(weights)


class NcnnRunner(Runner):
    """ncnn on the CPU in float32, convolutions with int8 weights in int8; float16 weights become float32 when read."""

    def __init__(self, path: Path, threads: int) -> None:
        import ncnn

        layers, stored, int8 = _checked(path)
        self._ncnn, self._net = ncnn, ncnn.Net()
        options = self._net.opt
        options.num_threads, options.use_vulkan_compute, options.use_int8_inference = threads, False, True
        for name in WIDE:
            if hasattr(options, name):
                setattr(options, name, False)
        for code, name in (
            (self._net.load_param(str(path / PARAM)), PARAM),
            (self._net.load_model(str(path / BIN)), BIN),
        ):
            if code != 0:
                raise BadInput(f"{path / name} does not load in ncnn (code {code}); export it again")
        first = layers[0]
        self._shape = (1, first.number(2), first.number(1), first.number(0))
        self._output = self._net.output_names()[0]
        # Memory of its own: ncnn reads whole vectors past the end of what it is lent, and computes in place on it.
        self._x, self._y = ncnn.Mat(*self._shape[:0:-1]), ncnn.Mat()
        self.name = "ncnn"
        self.details = {
            "runtime": "ncnn",
            "version": ncnn.__version__,
            "weights": stored,
            "arithmetic": "float32",
            "off": ",".join(name for name in WIDE if hasattr(options, name)),
            "threads": str(threads),
            **({"int8_layers": str(self._read_in_int8(int8))} if int8 else {}),
        }

    def _read_in_int8(self, layers: list[Line]) -> int:
        """How many of ``layers``, whose weights are int8, are given bytes by ncnn: only its int8 kernels read those."""
        self.feed(np.zeros(self._shape, np.float32))
        extractor = self._net.create_extractor()
        extractor.set_light_mode(False)
        extractor.input("image", self._x)
        return sum(extractor.extract(line.inputs[0], AS_IT_IS)[1].elembits() == 8 for line in layers)

    def feed(self, x: NDArray[Any]) -> None:
        if tuple(x.shape) != self._shape:
            raise wrong_size(self._shape, x.shape)
        np.asarray(self._x)[:] = x[0]

    def run(self) -> None:
        extractor = self._net.create_extractor()
        code = extractor.input("image", self._x)
        if code == 0:
            code, self._y = extractor.extract(self._output)
        if code != 0:
            raise ParityError(f"ncnn stopped with code {code}; export the file again")

    def fetch(self) -> NDArray[Any]:
        result: NDArray[Any] = np.array(self._y)[None]
        return result


def _checked(path: Path) -> tuple[list[Line], str, list[Line]]:
    """The layers, how weights are stored, and the convolutions with int8 weights and scales for them.

    ncnn is not asked to read two files that do not belong together.
    """
    from lightseg.export.writers.ncnn_weights import CONVOLUTIONS, layers_in, weights_in

    text, weights = member(path, PARAM), member(path, BIN)
    try:
        layers = layers_in(text.read_text(encoding="utf-8"))
    except (ValueError, IndexError) as error:
        raise BadInput(f"{text} is not a readable ncnn text ({error}); export it again") from error
    try:
        arrays = list(weights_in(layers, weights.read_bytes()))
    except ValueError as error:
        raise BadInput(f"{weights} does not belong to its {PARAM} ({error}); export it again") from error
    narrow = {array.layer: array.dtype for array in arrays if array.dtype != "float32"}
    int8 = [x for x in layers if narrow.get(x.name) == "int8" and x.kind in CONVOLUTIONS and x.number(8)]
    kinds = sorted(set(narrow.values()))
    return layers, ", ".join([*kinds, "biases and slopes float32"]) if kinds else "float32", int8


def load(path: Path, threads: int) -> Runner:
    return NcnnRunner(path, threads)


def rewrites() -> tuple[Rewrite, ...]:
    """PReLU stays: ncnn has a kernel for it that works in place, and max and min cost more.

    Measured on x86, one thread, process-CPU time of max and min against PReLU: SINet 1.34, ExtremeC3Net 1.11, street
    SINet 1.25; of `merge_cross`, street SINet 0.82. The rewrites of `ALWAYS` gain little here (0.94, 0.99 and 0.92 of
    the merely folded graph), as convolutions in groups and channel shuffles have kernels of their own. What gains most
    is the layout: `fill_packing` takes ExtremeC3Net to 0.34. `equalise` keeps C3Net's weights inside float16.
    """
    from lightseg.export.rewrites import ALWAYS, fill_packing, merge_cross
    from lightseg.export.rewrites.equalise import equalise

    return (*ALWAYS, merge_cross, equalise, fill_packing)


NCNN = Target(
    name="ncnn",
    suffix=".ncnn",
    extra="ncnn",
    precisions=("fp32", "fp16", "int8"),
    int8=Scheme(symmetric=True, lowest=-127, products=PRODUCTS),
    dynamic=False,
    layout="NCHW",
    rewrites=rewrites,
    convert=convert,
    convert_needs=(),
    load=load,
    load_needs=("ncnn",),
    stamp=stamp,
    read_record=read_record,
    folder=True,
    image_input="NCHW float32 RGB, 0 to 255",
    mask_element="float32",
)
