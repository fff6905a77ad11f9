"""The full proof: released weights at the published size, every model and target; and a second exporter's opinion."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from lightseg.export import export, load, verify
from lightseg.export.answers import prepared
from lightseg.export.reference import Reference
from lightseg.export.targets import TARGETS
from lightseg.zoo import create_model
from tests.export.conftest import Exported
from tests.export.subjects import lively, relative, require, small_size
from tests.export.targets_of import pairs

pytestmark = pytest.mark.slow


@cache
def _reference(name: str) -> Reference:
    model = create_model(name)
    return Reference(model, *model.spec.input_size)


@pytest.mark.parametrize(("name", "target"), pairs())
def test_the_full_proof(name: str, target: str, released: Path, tmp_path: Path) -> None:
    require(target)
    ref = _reference(name)
    for precision in set(TARGETS[target].precisions) - {"int8"}:  # it has its own, on photographs
        artifact = export(ref.model, target, tmp_path, reference=ref, precision=precision)
        assert artifact.parity is not None and artifact.parity["ok"]
        assert artifact.parity["agreement"] > 0.9999 or precision != "fp32"
        assert verify(artifact.path).goldens


@pytest.mark.parametrize("target", TARGETS)
def test_baked_mask_of_released_weights(target: str, released: Path, tmp_path: Path) -> None:
    require(target)
    ref = _reference("sinet")
    artifact = export(ref.model, target, tmp_path, reference=ref, output="mask", preprocess="baked")
    assert artifact.parity is not None and artifact.parity["ok"]


@pytest.mark.filterwarnings("ignore:.*treespec.*:FutureWarning")  # torch's exporter uses what torch deprecates
@pytest.mark.parametrize("name", ["sinet", "extremec3net"])
def test_torch_s_own_exporter_agrees(name: str, exported: Exported, tmp_path: Path) -> None:
    """Another path from the same network to ONNX, which shares no line with ours."""
    require("onnx")
    pytest.importorskip("onnxscript")
    import onnxruntime

    model = lively(name)
    x = torch.from_numpy(prepared(next(iter(_probes(name).values())), model.weights.preprocess))
    path = tmp_path / "theirs.onnx"
    torch.onnx.export(model.net, (x,), str(path), dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    ours = load(exported(name, "onnx").path)
    for image in _probes(name).values():
        single = prepared(image, model.weights.preprocess)
        theirs = session.run(None, {session.get_inputs()[0].name: single})[0]
        assert relative(np.array(ours(single)), theirs) <= 2e-5


def _probes(name: str) -> dict[str, np.ndarray]:
    from lightseg.export.probes import probe_pack

    return probe_pack(*small_size(name))
