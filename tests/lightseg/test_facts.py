"""What a ModelSpec claims, recounted."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lightseg.errors import BadInput
from lightseg.models.c3net import C3Module
from lightseg.spec import Labels, ModelSpec, Preprocess
from lightseg.zoo import MODELS, SegmentationModel, find_weights

specs = pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS)
BEYOND_ROUNDING = {("c3netv2", "params"), ("c3net", "macs"), ("c3netv2", "macs"), ("sinet_cityscapes", "macs")}
README_RULE = {"c3net": 3151.1e6, "c3netv2": 2658.9e6, "sinet_cityscapes": 1233.1e6}


def build_on_meta(spec: ModelSpec) -> nn.Module:
    with torch.device("meta"):
        return spec.build().eval()


@specs
def test_params_are_exact(spec: ModelSpec) -> None:
    assert sum(p.numel() for p in build_on_meta(spec).parameters()) == spec.params


@specs
def test_macs_are_exact(spec: ModelSpec) -> None:
    net = build_on_meta(spec)
    with FlopCounterMode(display=False) as counter:
        out = net(torch.empty(1, 3, *spec.input_size, device="meta"))
    assert counter.get_total_flops() == 2 * spec.macs
    height, width = (v // spec.output_stride for v in spec.input_size)
    assert out.shape == (1, spec.channels, height, width)


@specs
@pytest.mark.parametrize("key", ("params", "macs"))
def test_published_figures_agree_or_say_why_not(spec: ModelSpec, key: str) -> None:
    figure, ours = spec.published[key], spec.params if key == "params" else spec.macs
    published = Decimal(repr(figure.value / (1e6 if key == "params" else 1e9)))
    rounded = round(Decimal(ours) / Decimal(10**6 if key == "params" else 10**9), -int(published.as_tuple().exponent))
    assert figure.source
    assert (published != rounded) == ((spec.name, key) in BEYOND_ROUNDING)
    if published != rounded:
        assert "count" in figure.note or "cut" in figure.note


@pytest.mark.parametrize("name", README_RULE)
def test_the_noted_reason_reproduces_the_published_macs(name: str) -> None:
    """A doubled 1×1 convolution, half of the batch-norm elements, no transposed convolutions."""
    net, total = build_on_meta(MODELS[name]), [float(MODELS[name].macs)]

    def add(count: Callable[[Tensor, Tensor], float]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda module, inputs, output: total.__setitem__(0, total[0] + count(inputs[0], output))

    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(add(lambda x, y: y.numel() / 2))
        elif isinstance(module, nn.ConvTranspose2d):
            module.register_forward_hook(add(lambda x, y, m=module: -x.numel() * m.weight.shape[1] * 4))  # type: ignore[misc]
        elif isinstance(module, C3Module) and module.reduce.kernel_size == (1, 1):
            module.reduce.register_forward_hook(add(lambda x, y: y.numel() * x.shape[1]))
    net(torch.empty(1, 3, *MODELS[name].input_size, device="meta"))
    assert total[0] == pytest.approx(README_RULE[name], abs=0.05e6)


@specs
def test_upstream_names_map_one_to_one(spec: ModelSpec, released: Path) -> None:
    upstream = torch.load(released / find_weights(spec, "clova").file, map_location="cpu", weights_only=True)
    ours = []
    for name in upstream:
        for pattern, replacement in spec.upstream_names:
            name = re.sub(pattern, replacement, name)
        ours.append(name)
    counters = {k for k in spec.build().state_dict() if k.endswith("num_batches_tracked")}
    assert len(set(ours)) == len(ours)
    assert set(ours) | counters == set(spec.build().state_dict())


@specs
def test_sizes_are_checked_with_the_nearest_that_fits(spec: ModelSpec) -> None:
    spec.check_size(*spec.input_size)
    spec.check_size(spec.multiple, 3 * spec.multiple)
    with pytest.raises(BadInput, match=f"multiples of {spec.multiple}; try --input-size {4 * spec.multiple}x"):
        spec.check_size(4 * spec.multiple + 1, spec.multiple)
    with pytest.raises(BadInput, match=f"{spec.multiple}x{spec.multiple}$"):
        spec.check_size(0, 0)


@pytest.mark.parametrize("name", MODELS)
def test_declared_multiple_is_what_the_network_needs(name: str, clova: Callable[[str], SegmentationModel]) -> None:
    spec = MODELS[name]
    with torch.inference_mode():
        out = clova(name)(torch.zeros(1, 3, 2 * spec.multiple, spec.multiple))
    assert out.shape[2:] == (2 * spec.multiple // spec.output_stride, spec.multiple // spec.output_stride)


@specs
def test_facts_survive_json(spec: ModelSpec) -> None:
    assert Labels.from_dict(spec.labels.to_dict()) == spec.labels
    assert len(spec.labels.names) == len(spec.labels.colours) == len(set(spec.labels.names))
    for weights in spec.weights:
        assert Preprocess.from_dict(weights.preprocess.to_dict()) == weights.preprocess
        assert re.fullmatch("[0-9a-f]{64}", weights.sha256) and weights.licence and weights.origin
    assert len({w.tag for w in spec.weights}) == len(spec.weights)
    assert all("." not in w.tag for w in spec.weights)
