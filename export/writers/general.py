"""Whole networks through the formats' general converters. Slower to write and to run than what we write ourselves."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lightseg.errors import LightsegError, Unsupported

if TYPE_CHECKING:
    from torch import Tensor, fx

    from lightseg.export.targets.target import Plan

OPSET = 20


def to_onnx(plan: Plan, path: Path) -> None:
    """Through torch.onnx's dynamo exporter."""
    path.write_bytes(_onnx_bytes(plan))


def to_openvino(plan: Plan, path: Path) -> None:
    """Through ONNX: OpenVINO's own torch front end fails on graphs that ONNX takes."""
    import openvino as ov

    model = ov.Core().read_model(_onnx_bytes(plan))
    ov.save_model(model, str(path / "model.xml"), compress_to_fp16=False)


def _onnx_bytes(plan: Plan) -> bytes:
    with _said_shortly("torch.onnx"):
        program = torch.onnx.export(
            *_single(plan),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=[plan.output],
            verbose=False,
        )
        assert program is not None
        data: bytes = program.model_proto.SerializeToString()
    return data


def to_tflite(plan: Plan, path: Path) -> None:
    """Through litert-torch, channels last outside; inside it may transpose where it must."""
    with _said_shortly("litert-torch"):
        import litert_torch

        graph, (example,) = _single(plan)
        if not plan.baked:
            example = example.permute(0, 2, 3, 1).contiguous()
        arguments = [] if plan.baked else [0]
        outer = litert_torch.to_channel_last_io(graph, args=arguments, outputs=[0]).eval()
        litert_torch.convert(outer, (example,)).export(str(path))


def to_coreml(plan: Plan, path: Path) -> None:
    """Through coremltools' front end for exported programs."""
    from lightseg.export.mil.package import settle
    from lightseg.export.writers.mil import DEPLOYMENT, quiet

    with _said_shortly("coremltools"), quiet():
        import coremltools as ct

        graph, example = _single(plan)
        model = ct.convert(
            torch.export.export(graph, example).run_decompositions({}),
            convert_to="mlprogram",
            inputs=[ct.TensorType("image", plan.input_shape)],
            outputs=[ct.TensorType(plan.output)],
            minimum_deployment_target=getattr(ct.target, DEPLOYMENT),
            compute_precision=ct.precision.FLOAT32,
            pass_pipeline=_exact_passes(ct),
            skip_model_load=True,
        )
        model.save(str(path))
    settle(path)


def to_ncnn(plan: Plan, path: Path) -> None:
    """Through pnnx, which reads TorchScript and optimises by itself; only the blobs' names and the spacing are ours."""
    with _said_shortly("pnnx"), tempfile.TemporaryDirectory() as folder:
        import pnnx

        graph, example = _single(plan)
        traced = Path(folder) / "network.pt"
        torch.jit.save(torch.jit.trace(graph, example, check_trace=False), traced)  # type: ignore[no-untyped-call]
        shape = ",".join(map(str, plan.input_shape))
        done = subprocess.run(
            [pnnx.EXEC_PATH, traced.name, f"inputshape=[{shape}]", "fp16=0"],
            cwd=folder, capture_output=True, text=True, errors="replace",
        )  # fmt: skip
        text, weights = (traced.with_suffix(f".ncnn.{end}") for end in ("param", "bin"))
        if done.returncode != 0 or not weights.is_file():
            raise RuntimeError(done.stderr.strip() or f"exit status {done.returncode}")
        layers = _as_ours(text.read_text(encoding="utf-8"), plan)
        foreign = {row.split(" ")[0] for row in layers.splitlines() if {".", ":"} & set(row.split(" ")[0])}
        if foreign:
            raise RuntimeError(f"it leaves {', '.join(sorted(foreign))}, which ncnn has not")
        (path / "model.param").write_text(layers, encoding="utf-8")
        (path / "model.bin").write_bytes(weights.read_bytes())


def _as_ours(text: str, plan: Plan) -> str:
    """One space between words, and the input and output under the names, and the input with the size, of our files."""
    _, channels, height, width = plan.input_shape
    names = {"in0": "image", "out0": plan.output}
    rows = [" ".join(names.get(word, word) for word in row.split()) for row in text.splitlines()]
    return "".join(
        f"{row} 0={width} 1={height} 2={channels}\n" if row.startswith("Input ") else f"{row}\n" for row in rows
    )


def _exact_passes(ct: Any) -> Any:
    """All usual ones but the one that adds an eps to folded batch norms."""
    passes = ct.PassPipeline()
    passes.remove_passes(["common::fuse_elementwise_to_batchnorm"])
    return passes


def _single(plan: Plan) -> tuple[fx.GraphModule, tuple[Tensor]]:
    """The plan's graph in float32, and an input for it."""
    image = torch.zeros(plan.file_input_shape, dtype=torch.uint8 if plan.baked else torch.float32)
    return copy.deepcopy(plan.graph).float().eval(), (image,)


@contextlib.contextmanager
def _said_shortly(converter: str) -> Iterator[None]:
    """Progress and warnings of ``converter`` are dropped; what it raises becomes one line. Errors: `Unsupported`."""
    said = io.StringIO()
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("ignore")
            yield
    except LightsegError:
        raise
    except Exception as error:  # every converter has its own family of errors
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = lines[0] if lines else type(error).__name__
        raise Unsupported(f"{converter} cannot write this network either: {why}") from error
    finally:
        logging.disable(level)
