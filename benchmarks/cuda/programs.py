"""The kinds of program: a network in PyTorch, eager or compiled, an ONNX file, and a TensorRT engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightseg.benchmarks.cuda.place import Place, set_tf32
from lightseg.benchmarks.timing.environment import UNREADABLE
from lightseg.errors import BadInput, Unsupported

HALF = {"fp16": torch.float16}
"""Element types of PyTorch rows; float32 for every other precision."""
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
RECORD_NODES = "session.record_ep_graph_assignment_info"
NO_WAIT = "disable_synchronize_execution_providers"
OUTSIDE_THE_GRAPH = ("gpu_graph_id", "-1")


class TorchProgram:
    """PyTorch running the network's own code, or what its compiler makes of it.

    ``fp16`` has weights and values in float16, by `Module.half`; ``tf32`` is float32 with products from ten bits.
    """

    def __init__(
        self, model: nn.Module, shape: Sequence[int], at: Place, precision: str = "fp32", compiled: bool = False
    ) -> None:
        dtype = HALF.get(precision, torch.float32)
        module: Any = model.eval().to(at.device, dtype)
        self._module = torch.compile(module, fullgraph=True, dynamic=False) if compiled else module
        self._compiled, self._begun = compiled, False
        self.input = torch.zeros(tuple(shape), dtype=dtype, device=at.device)
        self.name = "torch.compile" if compiled else "PyTorch eager"
        self.details = {
            "runtime": "torch",
            "version": torch.__version__,
            "threads": str(torch.get_num_threads()),
            "element type": str(dtype).removeprefix("torch."),
            "tf32": set_tf32(precision == "tf32"),
        }

    @torch.inference_mode()
    def launch(self) -> Tensor:
        if self._compiled and not self._begun:
            return self._compile()
        output: Tensor = self._module(self.input)
        return output

    def _compile(self) -> Tensor:
        """The first run, which compiles; whether PyTorch's cache on disk spared it is read back."""
        from torch._dynamo.utils import counters

        self._begun = True
        before = counters["inductor"]["fxgraph_cache_hit"]
        output: Tensor = self._module(self.input)
        hit = counters["inductor"]["fxgraph_cache_hit"] > before
        self.details["compiled"] = "taken from PyTorch's cache on disk" if hit else "in the first run"
        return output

    def recordable(self) -> bool:
        return True


class OnnxProgram:
    """ONNX Runtime with its input and output bound to PyTorch's tensors, on PyTorch's stream.

    Errors: `Unsupported` where the provider is not there or did not start; `BadInput` for a file that does not load,
    or takes other shapes.
    """

    def __init__(
        self, path: Path, shape: Sequence[int], at: Place, threads: int = 1, graph: bool = False, tf32: bool = False
    ) -> None:
        import onnxruntime as ort

        provider = PROVIDERS[at.device.type]
        check_provider(ort, provider)
        check_quantised(path, at)
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        options.add_session_config_entry(RECORD_NODES, "1")
        wanted = provider_options(at, graph, tf32)
        try:
            self._session = ort.InferenceSession(path, options, providers=[(provider, wanted)])
        except Exception as error:  # the runtime raises a family of its own types
            raise BadInput(f"{path} does not load in ONNX Runtime: {str(error).splitlines()[0]}") from error
        check_started(self._session, provider, ort.__version__)
        self._options = _run_options(ort)
        self.input = torch.zeros(self._takes(path, shape), dtype=self._element(), device=at.device)
        self._binding = self._session.io_binding()
        self._bind(self._binding.bind_input, self._session.get_inputs()[0].name, self.input)
        self._output = torch.zeros(self._gives(ort, at), device=at.device)
        self._bind(self._binding.bind_output, self._session.get_outputs()[0].name, self._output)
        self.name = "onnxruntime"
        self.details = {
            "runtime": "onnxruntime",
            "version": ort.__version__,
            "provider": ",".join(self._session.get_providers()),
            "threads": str(threads),
            **nodes(self._session, provider),
            **read_back(self._session, provider),
        }

    def launch(self) -> Tensor:
        self._session.run_with_iobinding(self._binding, self._options)
        return self._output

    def recordable(self) -> bool:
        """Not by PyTorch: the provider records its graphs itself."""
        return False

    def _element(self) -> torch.dtype:
        return torch.uint8 if self._session.get_inputs()[0].type == "tensor(uint8)" else torch.float32

    def _takes(self, path: Path, shape: Sequence[int]) -> tuple[int, ...]:
        """The input's shape in the file's own layout."""
        batch, channels, height, width = shape
        own = (batch, height, width, channels) if self._element() == torch.uint8 else tuple(shape)
        declared = self._session.get_inputs()[0].shape
        if any(isinstance(size, int) and size != want for size, want in zip(declared, own, strict=True)):
            told = "x".join(map(str, declared))
            raise BadInput(f"{path.name} takes {told}, not {'x'.join(map(str, own))}; export it with --dynamic")
        return own

    def _gives(self, ort: Any, at: Place) -> tuple[int, ...]:
        """The output's shape, by a run outside every graph whose output the runtime allocates itself."""
        options = _run_options(ort)
        options.add_run_config_entry(*OUTSIDE_THE_GRAPH)
        self._binding.bind_output(self._session.get_outputs()[0].name, at.device.type)
        self._session.run_with_iobinding(self._binding, options)
        at.wait()
        return tuple(self._binding.get_outputs()[0].shape())

    def _bind(self, bind: Any, name: str, tensor: Tensor) -> None:
        import numpy as np

        element = np.uint8 if tensor.dtype == torch.uint8 else np.float32
        bind(name, tensor.device.type, tensor.device.index or 0, element, list(tensor.shape), tensor.data_ptr())


def provider_options(at: Place, graph: bool, tf32: bool) -> dict[str, str]:
    """For the CUDA provider; none for the processor's. TF32, which the provider switches on unasked, is off."""
    stream = at.stream()
    if stream is None:
        return {}
    return {
        "device_id": str(at.device.index or 0),
        "user_compute_stream": str(stream.cuda_stream),
        "use_tf32": str(int(tf32)),
        "enable_cuda_graph": str(int(graph)),
    }


def _run_options(ort: Any) -> Any:
    """Return at once: the clock in the stream and the runner's wait are what ends a run."""
    options = ort.RunOptions()
    options.add_run_config_entry(NO_WAIT, "1")
    return options


def check_provider(ort: Any, provider: str) -> None:
    """Errors: `Unsupported` where the installed package was built without ``provider``."""
    if provider not in ort.get_available_providers():
        raise Unsupported(
            f"this ONNX Runtime {ort.__version__} has no {provider}; in place of onnxruntime install it with: "
            "pip install onnxruntime-gpu"
        )


def check_started(session: Any, provider: str, version: str) -> None:
    """Errors: `Unsupported` where the runtime took the processor instead, which it does without an error."""
    if session.get_providers()[0] != provider:
        raise Unsupported(
            f"ONNX Runtime {version} runs on {', '.join(session.get_providers())}: {provider} did not start; "
            "install the CUDA and cuDNN libraries it was built for"
        )


def check_quantised(path: Path, at: Place) -> None:
    """Errors: `Unsupported` for an int8 file on a GPU, which would compute in float32 between its conversions."""
    if at.device.type == "cuda" and b"QuantizeLinear" in path.read_bytes():
        raise Unsupported(
            f"{path.name} is int8, and ONNX Runtime's CUDA provider has no int8 convolutions: it would compute them in "
            "float32; use --to tensorrt or tensorrt_rtx"
        )


def nodes(session: Any, provider: str) -> dict[str, str]:
    """How many nodes of the optimised graph each provider took, and which kinds fell back to another one."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {"nodes": UNREADABLE, "fallback nodes": UNREADABLE}
    by_provider: dict[str, Counter[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        by_provider.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
    counts = {name: sum(kinds.values()) for name, kinds in by_provider.items()}
    others = sum((kinds for name, kinds in by_provider.items() if name != provider), Counter())
    fallen = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
    return {
        "nodes": ", ".join(f"{name} {count}" for name, count in counts.items()),
        "fallback nodes": f"{others.total()} ({fallen})" if others else "0",
    }


def read_back(session: Any, provider: str) -> dict[str, str]:
    """What the provider says of its own options."""
    told = session.get_provider_options().get(provider, {})
    return {name: told[key] for key, name in (("use_tf32", "tf32"), ("enable_cuda_graph", "cuda graph")) if key in told}


class EngineProgram:
    """A TensorRT engine for the GPU at hand. Errors: `Unsupported` where the artifact has none for it."""

    def __init__(self, path: Path, shape: Sequence[int], at: Place) -> None:
        from lightseg.export.targets import target_of
        from lightseg.export.tensorrt.artifact import read_build
        from lightseg.export.tensorrt.device import BoundEngine, fitting, gpu
        from lightseg.export.tensorrt.engines import capabilities
        from lightseg.export.tensorrt.vendor import vendor

        module, build, found = target_of(path).name, read_build(path), gpu()
        capability = found[1] if found else ""
        known = list(capabilities(vendor(module)))
        engine = fitting(build.engines, capability, known) if found else None
        if engine is None:
            has = ", ".join(one.capability for one in build.engines) or "none"
            raise Unsupported(
                f"{path.name} has engines for {has}, and this GPU has compute capability {capability or 'unknown'}; "
                "export it again with --capability for this GPU"
            )
        self._at, self._bound = at, BoundEngine(module, path, engine)
        self.input = self._bound.input
        self.name = module
        self.details = {**self._bound.details, "tf32": "on" if engine.tf32 else "off"}
        if build.quantised:
            self.details["int8_layers"] = str(build.int8_layers)

    def launch(self) -> Tensor:
        """On the stream that is current, which is the recording one while a graph is made."""
        self._bound.launch(torch.cuda.current_stream())
        output: Tensor = self._bound.output
        return output

    def recordable(self) -> bool:
        return self._bound.records(self._at.stream())
