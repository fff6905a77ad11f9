"""Weights in float16: in one partition, inside the range, as far off as eleven bits allow and no further."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightseg.errors import Unsupported
from lightseg.export.rewrites import rewrite
from lightseg.export.targets import TARGETS
from lightseg.export.writers.half import as_half
from lightseg.export.writers.tflite import write_tflite
from lightseg.zoo import MODELS
from tests.export.conftest import Exported
from tests.export.subjects import SLOW_WRITERS, graph_of, require, small_size
from tests.export.test_coreml import replace_first_weight

HALVES = [t for t in TARGETS.values() if "fp16" in t.precisions]
PAIRS = [
    pytest.param(name, target.name, marks=[pytest.mark.slow] * (target.name in SLOW_WRITERS or name not in QUICK))
    for QUICK in [("sinet", "c3net")]
    for name in MODELS
    for target in HALVES
]


@pytest.mark.parametrize(("name", "target"), PAIRS)
def test_half_weights_pass_and_are_not_single_ones(name: str, target: str, exported: Exported) -> None:
    """The error lies between what float32 leaves and what is allowed: the halves are really there."""
    wide, narrow = (exported(name, target, precision=p) for p in ("fp32", "fp16"))
    for artifact in (wide, narrow):
        assert artifact.parity is not None and artifact.parity["ok"]
    assert wide.parity and narrow.parity
    assert narrow.parity["relative_error"] > 10 * wide.parity["relative_error"]
    assert "equalise" in narrow.changes


@pytest.mark.parametrize(
    "name", [n if n in ("sinet", "c3netv2") else pytest.param(n, marks=pytest.mark.slow) for n in MODELS]
)
def test_tflite_in_half_runs_in_one_partition(name: str, exported: Exported) -> None:
    """The delegate takes each DEQUANTIZE with its reader; one that it leaves would cut the graph."""
    require("tflite")
    artifact = exported(name, "tflite", precision="fp16")
    assert artifact.parity is not None
    said = artifact.parity["runner"]
    assert (said["partitions"], said["delegate"], said["weights"]) == ("1", "XNNPACK", "float16")
    assert said["arithmetic"] == "float32"


def test_tflite_in_half_is_about_half() -> None:
    require("tflite")
    graph = graph_of("sinet")
    rewrite(graph, TARGETS["tflite"].rewrites())
    shape = (1, 3, *small_size("sinet"))
    wide, narrow = (len(write_tflite(graph, shape, "image", "logits", half)) for half in (False, True))
    assert narrow < 0.75 * wide


def test_onnx_keeps_weights_in_half_and_computes_in_float32(exported: Exported) -> None:
    """No value but a stored one is float16; ONNX Runtime casts those when it loads, so no Cast is left to run."""
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto

    require("onnx")
    artifact = exported("sinet", "onnx", precision="fp16")
    assert artifact.parity is not None and "in float16" in artifact.parity["runner"]["weights"]
    graph = onnx.shape_inference.infer_shapes(onnx.load(artifact.path)).graph
    halves, wide = (
        sum(len(c.raw_data) for c in graph.initializer if c.data_type == kind)
        for kind in (TensorProto.FLOAT16, TensorProto.FLOAT)
    )
    assert halves > 5 * wide
    assert all(v.type.tensor_type.elem_type != TensorProto.FLOAT16 for v in graph.value_info)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(artifact.path.parent / "as_run.onnx")
    ort.InferenceSession(artifact.path, options, providers=["CPUExecutionProvider"])
    assert "Cast" not in {node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node}


def test_tflite_refuses_a_weight_beyond_float16() -> None:
    require("tflite")
    huge = replace_first_weight(graph_of("sinet"), 1e6)
    with pytest.raises(Unsupported, match=r"has a weight of 1e\+06"):
        write_tflite(huge, (1, 3, *small_size("sinet")), "image", "logits", half=True)


@pytest.mark.parametrize("value", [65504.0, -65504.0, 1e-9, 0.1])
def test_numbers_in_range_are_rounded(value: float) -> None:
    assert as_half("w", torch.tensor([value], dtype=torch.float64)) == np.float16(value)


@pytest.mark.parametrize("value", [65520.0, -1e30, np.inf])
def test_numbers_beyond_it_are_refused(value: float) -> None:
    with pytest.raises(Unsupported, match=r"w has a weight of .*export it with --precision fp32"):
        as_half("w", np.array([1.0, value]))
