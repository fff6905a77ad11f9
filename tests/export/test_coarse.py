"""`mask_coarse` is the mask of a cheaper network: the file equals that one, and says how far the model is."""

from __future__ import annotations

import copy
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lightseg.errors import Unsupported
from lightseg.export.graph import ops
from lightseg.export.graph.capture import capture
from lightseg.export.graph.coarse import coarsen
from lightseg.export.graph.compose import append_head
from lightseg.export.graph.cost import cost
from lightseg.export.graph.edit import op_nodes
from lightseg.export.record import read_artifact
from lightseg.export.reference import enlarge
from lightseg.export.rewrites import ALWAYS, rewrite
from lightseg.export.targets import TARGETS
from lightseg.export.verification import load, verify
from lightseg.images import normalise
from lightseg.predict import mask_from_logits
from lightseg.zoo import MODELS
from tests.export.conftest import Exported
from tests.export.graph_builder import Builder
from tests.export.subjects import double, graph_of, images, lively, reference, relative, small_size
from tests.export.targets_of import pairs

BLOCK = 2
"""Every network ends in a step of two."""


SLOW = {"coreml", "openvino", "tensorrt", "tensorrt_rtx", "executorch"}
FEW = [*pairs(SLOW, ["sinet", "extremec3net"]), *pairs(TARGETS, ["c3net", "c3netv2", "sinet_cityscapes"])]


@pytest.mark.parametrize(("name", "target"), FEW)
def test_the_file_is_the_coarse_networks_mask(name: str, target: str, exported: Exported) -> None:
    """Half the rows and columns, proven beside PyTorch, and the record says what that costs."""
    artifact = exported(name, target, output="mask_coarse")
    exact = MODELS[name].output_stride
    assert artifact.output_shape == (1, 1, *(side // exact // BLOCK for side in small_size(name)))
    assert artifact.parity is not None and artifact.parity["ok"]
    kept = read_artifact(artifact.path)
    assert kept.differs == reference(name).for_output("mask_coarse").differs and set(kept.differs) == {"photo", "scene"}
    assert verify(artifact.path).goldens
    x = normalise(reference(name).probes["photo"].astype(np.float32).transpose(2, 0, 1)[None], artifact.feeds)
    got, want = load(artifact.path)(x), reference(name).logits["photo"]
    share = (enlarge(got[:, 0], want.shape[2:]) != mask_from_logits(want, MODELS[name].labels)).mean()
    assert abs(share - kept.differs["photo"]) <= 0.002


@pytest.mark.parametrize("name", MODELS)
def test_it_is_another_mask_and_cheaper(name: str) -> None:
    """Near the exact one where the last step interpolates; random transposed convolutions are nowhere near a mean."""
    whole, coarse = graph_of(name), graph_of(name)
    append_head(whole, MODELS[name], "mask")
    append_head(coarse, MODELS[name], "mask_coarse")
    for graph in (whole, coarse):
        rewrite(graph, ALWAYS)
    x = images(name)
    exact, cut = whole(x).numpy()[:, 0], coarse(x).numpy()[:, 0]
    differs = (enlarge(cut, exact.shape[1:]) != exact).mean()
    assert 0 < differs < (0.2 if MODELS[name].task == "portrait" else 1)
    shape = whole.meta["input_shape"]
    assert cost(coarse, shape).bytes_moved < cost(whole, shape).bytes_moved


@pytest.mark.parametrize("name", ["c3net", "sinet_cityscapes"])
def test_a_transposed_convolution_becomes_its_mean(name: str) -> None:
    graph, x = graph_of(name), images(name)
    coarsen(graph)
    assert relative(graph(x), F.avg_pool2d(double(name)(x).detach(), BLOCK)) <= 1e-12


@pytest.mark.parametrize(("factor", "kernel"), list(product((2, 3, 4), (1, 3, 5))))
def test_a_convolution_reads_between_the_pixels(factor: int, kernel: int) -> None:
    """As if pixels were interpolated, with zeros around, convolved there, and every ``factor``-th answer kept."""
    b = Builder((1, 3, 8, 12))
    conv = b.conv(3, 2, (kernel, kernel), bias=True)
    graph = b.finish(b.call(conv, b.call(ops.Upsample(factor, True), b.image)))
    x = b.normal(2, 3, 8, 12)
    rows, columns = (_between(size, factor, kernel // 2) for size in (8, 12))
    fine = torch.einsum("Rr,ncrk,Kk->ncRK", rows, x, columns)
    want = F.conv2d(fine, conv.weight, conv.bias)[:, :, ::factor, ::factor]
    coarsen(graph)
    assert relative(graph(x), want) <= 1e-12
    again = copy.deepcopy(graph)
    coarsen(again)
    assert torch.equal(again(x), graph(x))


def _between(size: int, factor: int, reach: int) -> torch.Tensor:
    """From ``size`` pixels to places 1/``factor`` apart, ``reach`` places more on either side."""
    places = torch.arange(-reach, (size - 1) * factor + 1 + reach, dtype=torch.float64)[:, None] / factor
    return (1 - (places - torch.arange(size, dtype=torch.float64)).abs()).clamp(min=0)


ENDS = {
    "no upsampling": lambda b: b.call(ops.Sigmoid(), b.call(b.conv(3, 2), b.image)),
    "two wide": lambda b: b.call(
        b.conv(2, 2, (3, 3)), b.call(b.conv(3, 2, (3, 3)), b.call(ops.Upsample(2, True), b.image))
    ),
    "a pooling": lambda b: b.call(ops.AvgPool(2), b.call(ops.Upsample(2, True), b.image)),
}


@pytest.mark.parametrize("end", ENDS)
def test_other_ends_are_refused(end: str) -> None:
    b = Builder((1, 3, 8, 12))
    graph = b.finish(ENDS[end](b))
    before = [type(op) for _, op in op_nodes(graph)]
    with pytest.raises(Unsupported, match="--output mask"):
        coarsen(graph)
    assert [type(op) for _, op in op_nodes(graph)] == before


def test_exact_heads_have_one_reference() -> None:
    whole = reference("sinet")
    assert all(whole.for_output(output) is whole and not whole.differs for output in ("logits", "probability", "mask"))
    coarse = whole.for_output("mask_coarse")
    assert coarse.for_output("mask_coarse") is coarse
    assert capture(lively("sinet"), *whole.size, 32).meta.get("coarse") is None
