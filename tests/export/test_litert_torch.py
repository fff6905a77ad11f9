"""An independent converter of the same networks: it must say what our TFLite files say.

litert-torch lowers PyTorch through its own path (and brings jax), so a mistake it shares with the direct writer would
be a strange coincidence. `pip install 'lightseg[litert-torch,tflite]'` into an environment of its own.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightseg.export import load
from lightseg.export.parity import TOLERANCE, limits
from lightseg.export.runner import Runner
from lightseg.export.targets import find_target
from lightseg.zoo import MODELS
from tests.export.subjects import images, lively, reference, relative, small_size

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
PROBES = ("photo", "noise", "scene")
"""In the order of `images`."""


@pytest.fixture(scope="module")
def litert_torch() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("litert_torch", reason="litert-torch is not installed: lightseg[litert-torch]")


def converted(litert_torch: Any, name: str, folder: Path) -> Runner:
    """The network as litert-torch writes it, channels last as in our files."""
    model = litert_torch.to_channel_last_io(lively(name), args=[0], outputs=[0]).eval()
    path = folder / f"{name}.tflite"
    litert_torch.convert(model, (torch.zeros(1, *small_size(name), 3),)).export(str(path))
    return find_target("tflite").load(path, 1)


@pytest.mark.parametrize("name", MODELS)
def test_both_converters_files_say_the_same(name: str, litert_torch: Any, tmp_path: Path, exported: Any) -> None:
    """Each may be one limit away from the exact answer, so they may be two apart."""
    ours, theirs = load(exported(name, "tflite").path), converted(litert_torch, name, tmp_path)
    allowed = limits(TOLERANCE["fp32"], reference(name).distances("fp32"))
    for probe, x in zip(PROBES, images(name, len(PROBES)).numpy().astype(np.float32)):
        assert relative(ours(x[None]), theirs(x[None])) <= 2 * allowed[probe].largest


def test_the_comparison_can_fail(litert_torch: Any, tmp_path: Path, exported: Any) -> None:
    """A network with one layer's weights a hundredth off is told apart."""
    model = lively("sinet")
    weight = next(m.weight for m in model.modules() if isinstance(m, torch.nn.Conv2d))
    with torch.no_grad():
        weight.mul_(1.01)
        try:
            theirs = converted(litert_torch, "sinet", tmp_path)
        finally:
            weight.div_(1.01)
    x = images("sinet").numpy().astype(np.float32)
    allowed = limits(TOLERANCE["fp32"], reference("sinet").distances("fp32"))
    assert relative(load(exported("sinet", "tflite").path)(x), theirs(x)) > 2 * allowed["photo"].largest
