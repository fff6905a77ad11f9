"""What the tests of this folder share: small, lively models, their references and captured graphs, made once."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from lightseg.export.answers import prepared
from lightseg.export.artifact import Artifact
from lightseg.export.probes import probe_pack
from lightseg.export.reference import Reference
from lightseg.export.rewrites import ALWAYS, Rewrite
from lightseg.export.targets import TARGETS
from lightseg.zoo import MODELS, SegmentationModel, create_model

PAIRS = [(name, target) for name in MODELS for target in TARGETS]
"""Every model with every target, for `pytest.mark.parametrize`."""
SLOW_WRITERS = {"coreml", "openvino", "executorch"}
"""Targets whose converter or import takes seconds: tests of many graphs are marked slow for them."""
DYNAMIC = [name for name, target in TARGETS.items() if target.dynamic]


def small_size(name: str) -> tuple[int, int]:
    """A size a test can afford and that is not square: tall portraits, wide streets."""
    spec = MODELS[name]
    base = -(-64 // spec.multiple) * spec.multiple
    if spec.task == "street":
        return base, 2 * base
    return base + -(-32 // spec.multiple) * spec.multiple, base


def require(target: str) -> None:
    """Skip with the target's own reason where this machine cannot write or run it."""
    reason = TARGETS[target].why_not_convert() or TARGETS[target].why_not_load()
    if reason:
        pytest.skip(reason)


@cache
def lively(name: str) -> SegmentationModel:
    """A random model whose batch norms fit four images, fed as the released weights are.

    Plainly random networks die out: their logits are nearly those of the last bias, and a defect in front moves
    nothing. With statistics taken from real activations every layer matters, as in trained networks.
    """
    model = create_model(name, "random")
    model.weights = replace(model.weights, preprocess=model.spec.weights[0].preprocess)
    pack = probe_pack(*small_size(name))
    seen = [pack["photo"], pack["photo"][:, ::-1], pack["scene"], pack["noise"]]
    images = np.concatenate([prepared(i, model.weights.preprocess) for i in seen])
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(torch.from_numpy(images))
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()


@cache
def reference(name: str) -> Reference:
    """The lively model at its small size, with its graph captured. Do not change it."""
    made = Reference(lively(name), *small_size(name))
    assert made.graph is not None
    return made


def graph_of(name: str) -> fx.GraphModule:
    """A copy of the captured graph to change."""
    return copy.deepcopy(reference(name).graph)


@cache
def double(name: str) -> nn.Module:
    return copy.deepcopy(lively(name)).double()


def images(name: str, batch: int = 1, size: tuple[int, int] | None = None) -> Tensor:
    """Preprocessed float64 probes, as many as ``batch``: the photo, then noise, then the scene."""
    pack = probe_pack(*(size or small_size(name)))
    chosen = [pack[k] for k in ("photo", "noise", "scene")][:batch]
    stacked = np.concatenate([prepared(i, lively(name).weights.preprocess) for i in chosen])
    return torch.from_numpy(stacked).double()


def relative(got: Tensor | NDArray[Any], want: Tensor | NDArray[Any]) -> float:
    """max|Δ| / max|want|; NaN stays NaN."""
    a, b = (np.asarray(v, np.float64) for v in (got, want))
    assert a.shape == b.shape
    return float(np.abs(a - b).max() / np.abs(b).max())


@cache
def all_rewrites() -> dict[str, Rewrite]:
    """Every rewrite some table names, and every public one a module of the package defines, by name."""
    found = {r.__name__: r for r in ALWAYS}
    for target in TARGETS.values():
        found |= {r.__name__: r for r in target.rewrites()}
    return found | {f.__name__: f for f in _defined_rewrites()}


def _defined_rewrites() -> Iterator[Rewrite]:
    """Public functions from a graph to a number of changes."""
    import importlib
    import inspect
    import pkgutil

    import lightseg.export.rewrites as package

    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for name, function in vars(module).items():
            if not inspect.isfunction(function) or function.__module__ != module.__name__ or name.startswith("_"):
                continue
            signature = inspect.signature(function)
            kinds = [p.annotation for p in signature.parameters.values()]
            if kinds == ["fx.GraphModule"] and signature.return_annotation == "int":
                yield function


def failed_name(artifact: Artifact) -> str:
    return artifact.path.name + ".failed"


@cache
def plain(name: str) -> Reference:
    """The model ``--weights random`` gives, at its small size; its record names the weights truly."""
    return Reference(create_model(name, "random"), *small_size(name))
