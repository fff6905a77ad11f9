"""ExecuTorch: one call of its XNNPACK delegate, written directly from the intermediate form, run by its Python runtime.

ExecuTorch's own lowering (1.5.1) is not used: see docs/executorch.md for what it costs and where it is wrong.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
import weakref
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightseg.errors import BadInput, Unsupported
from lightseg.export.quantization.scheme import Scheme
from lightseg.export.runner import Runner, wrong_size
from lightseg.export.targets.target import Plan, Target
from lightseg.export.targets.xnnpack import PRICE

if TYPE_CHECKING:
    from lightseg.export.rewrites import Rewrite

_LOADED: weakref.WeakSet[ExecuTorchRunner] = weakref.WeakSet()
"""Programs that hold ExecuTorch's one pool of threads, which must not be replaced under them."""

KINDS = {1: "float32", 2: "float16", 3: "int8", 6: "int8", 7: "int32"}
"""Element types by the schema's number; of the two for int8 the first is for values, the second for weights."""
CONVOLUTIONS = ("XNNConv2d", "XNNDepthwiseConv2d")


def convert(plan: Plan, path: Path) -> None:
    from lightseg.export.writers.pte import with_notes, write_pte
    from lightseg.export.writers.xnnpack import xnn_graph

    with quiet():
        xnn = xnn_graph(plan.graph, plan.file_input_shape, "image", plan.output, plan.precision == "fp16")
        data = write_pte(xnn)
    path.write_bytes(with_notes(data, values=xnn.names))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """ExecuTorch warns that its interface is experimental, logs which of its optional libraries do not load, and leaves
    a variable of OpenVINO's in the environment."""
    before, level = os.environ.get("OPENVINO_LIB_PATH"), logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        if before is None:
            os.environ.pop("OPENVINO_LIB_PATH", None)


class ExecuTorchRunner(Runner):
    """ExecuTorch's own runtime, which takes its threads from one pool for the whole process."""

    def __init__(self, path: Path, threads: int) -> None:
        if find_spec("torch") is None:
            raise Unsupported(f"{path} runs in ExecuTorch's Python runtime, which needs it: pip install torch")
        import torch

        data = program_of(path)
        self._torch = torch
        with quiet():
            _set_threads(threads)
        try:
            self._method, self._program = runtime_method(data)
            inputs, outputs = (_shapes(self._method.method_meta(), kind) for kind in ("input", "output"))
        except Exception as error:  # the runtime raises plain RuntimeErrors of several lines
            raise BadInput(
                f"{path} does not load in ExecuTorch: {str(error).splitlines()[0]}; export it again"
            ) from error
        if len(inputs) != 1 or len(outputs) != 1:
            raise BadInput(f"{path} takes {len(inputs)} and returns {len(outputs)} tensors; lightseg's files one each")
        self._takes = inputs[0]
        self.name = "executorch"
        self.details = {
            "runtime": "executorch",
            "version": metadata.version("executorch"),
            **_inside(data),
            "threads": str(threads),
        }
        _LOADED.add(self)

    def feed(self, x: NDArray[Any]) -> None:
        if tuple(x.shape) != self._takes:
            raise wrong_size(self._takes, x.shape)
        # Copied into the program's own memory.
        self._method.set_inputs([self._torch.from_numpy(np.array(x, np.float32, order="C"))])

    def run(self) -> None:
        self._method.execute()

    def fetch(self) -> NDArray[Any]:
        result: NDArray[Any] = self._method.get_outputs()[0].numpy()
        return result


def runtime_method(data: bytes) -> tuple[Any, Any]:
    """The one method of a program, and the program, which must live as long: it holds the weights."""
    with quiet():
        from executorch.runtime import Runtime

    program = Runtime.get().load_program(data)
    return program.load_method("forward")._method, program


def program_of(path: Path) -> bytes:
    """The program alone. Errors: `BadInput` where the file is damaged or another tool's half a program."""
    from lightseg.export.writers.pte import is_whole, split

    data = path.read_bytes()
    try:
        program, _ = split(data)
    except ValueError as error:
        raise BadInput(f"{path} is not a readable ExecuTorch file ({error}); export it again") from error
    if not is_whole(program):
        raise BadInput(f"{path} is cut short: its header promises more bytes; export it again")
    return program


def _set_threads(threads: int) -> None:
    """Errors: `Unsupported` where programs that are loaded hold a pool of another size."""
    from executorch.extension.pybindings.portable_lib import _threadpool_get_thread_count, _unsafe_reset_threadpool

    if _threadpool_get_thread_count() == threads:
        return
    if len(_LOADED):
        raise Unsupported(
            f"ExecuTorch has one pool of threads, and {len(_LOADED)} loaded programs hold it with "
            f"{_threadpool_get_thread_count()}: run the one with {threads} in another process"
        )
    _unsafe_reset_threadpool(threads)


def _shapes(meta: Any, kind: str) -> list[tuple[int, ...]]:
    """Of all inputs or outputs."""
    count = getattr(meta, f"num_{kind}s")()
    return [tuple(getattr(meta, f"{kind}_tensor_meta")(i).sizes()) for i in range(count)]


def _inside(program: bytes) -> dict[str, str]:
    """What the program's own instructions say: calls of the delegate, and operations that fell outside of it."""
    with quiet():
        from executorch.exir._serialize._flatbuffer_program import _flatbuffer_to_program
        from executorch.exir.schema import DelegateCall, KernelCall

    plan = _flatbuffer_to_program(program).execution_plan[0]
    calls = [instruction.instr_args for chain in plan.chains for instruction in chain.instructions]
    kernels = [plan.operators[call.op_index].name for call in calls if isinstance(call, KernelCall)]
    return {
        "delegate": ",".join(delegate.id for delegate in plan.delegates) or "none",
        "partitions": str(sum(isinstance(call, DelegateCall) for call in calls)),
        "outside": ",".join(sorted(set(kernels))) or "nothing",
        **_numbers(program),
    }


def _numbers(program: bytes) -> dict[str, str]:
    """Types of the weights, and of what one operation hands to the next; inside an operation XNNPACK does as it likes,
    which on x86 without float16 units is float32.

    A convolution whose input, weights and result are int8 is one of eight bits: XNNPACK chooses a kernel by these three
    types and has no other for them.
    """
    from lightseg.export.writers.pte import read_pte
    from lightseg.export.writers.xnnpack_graph import tensor_of

    with quiet():
        graph = read_pte(program).graph
    tensors = [tensor_of(value) for value in graph.xvalues]
    kind = {t.id_out: KINDS.get(int(t.datatype), "other") for t in tensors}
    weights = {kind[t.id_out] for t in tensors if t.constant_buffer_idx}
    between = {kind[t.id_out] for t in tensors if not t.constant_buffer_idx and not t.flags}
    steps = [node.xnode_union for node in graph.xnodes]
    ends = [(s.input1_id, s.filter_id, s.output_id) for s in steps if type(s).__name__ in CONVOLUTIONS]
    int8 = sum(all(kind[i] == "int8" for i in three) for three in ends)
    return {
        "weights": " and ".join(sorted(weights)),
        "arithmetic": " and ".join(sorted(between)) + " between operations",
        **({"int8_layers": str(int8)} if int8 else {}),
    }


def load(path: Path, threads: int) -> Runner:
    return ExecuTorchRunner(path, threads)


def stamp(path: Path, text: str) -> None:
    from lightseg.export.writers.pte import with_notes

    path.write_bytes(with_notes(path.read_bytes(), record=text))


def read_record(path: Path) -> str | None:
    from lightseg.export.writers.pte import split

    try:
        return split(path.read_bytes())[1].get("record")
    except ValueError as error:
        raise BadInput(f"{path} is not a readable ExecuTorch file ({error}); export it again") from error


def rewrites() -> tuple[Rewrite, ...]:
    """The kernels are XNNPACK's, as in TFLite, and so is what pays.

    Measured on x86, one thread, process-CPU minima of the merely folded graph: SINet 0.63, ExtremeC3Net 0.59, of which
    `ALWAYS` alone is 0.82 and 0.74. Without `by_rows` SINet would take 1.10 of the time and ExtremeC3Net 1.14, without
    `pack_columns` and `widen_gate` SINet 1.17, without `late_concat` 1.02; max and min in place of PReLU cost 1.10 on
    ExtremeC3Net. `merge_cross` and `affine_as_depthwise` change nothing on the portraits; they and `split_depthwise`
    and `deconv_to_depth` are here for what they gain the street networks in TFLite, which was not measured again.
    `equalise` is for float16.
    """
    from lightseg.export import rewrites as r
    from lightseg.export.rewrites.equalise import equalise

    lanes = (r.late_concat, r.pack_columns, r.widen_gate, r.by_rows, r.split_depthwise, r.affine_as_depthwise)
    return (*r.ALWAYS, r.merge_cross, r.deconv_to_depth, equalise, *lanes)


EXECUTORCH = Target(
    name="executorch",
    suffix=".pte",
    extra="executorch",
    precisions=("fp32", "fp16", "int8"),
    int8=Scheme(outputs=True, price=PRICE),
    dynamic=False,
    layout="NCHW",
    rewrites=rewrites,
    convert=convert,
    convert_needs=("executorch",),
    load=load,
    load_needs=("executorch",),
    stamp=stamp,
    read_record=read_record,
    image_input="NCHW float32 RGB, 0 to 255",
    mask_element="float32",
)
