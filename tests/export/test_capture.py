"""The captured graph is the network: same function, known operations, any batch and size."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightseg.errors import Unsupported
from lightseg.export.graph import ops
from lightseg.export.graph.capture import capture
from lightseg.export.graph.edit import op_nodes
from lightseg.export.graph.shapes import shapes
from lightseg.zoo import MODELS
from tests.export.subjects import double, images, lively, reference, relative, small_size

EXACT = 1e-12


@pytest.mark.parametrize("name", MODELS)
def test_equals_the_network_in_float64(name: str) -> None:
    x = images(name)
    assert relative(reference(name).graph(x), double(name)(x).detach()) <= EXACT


@pytest.mark.parametrize("name", MODELS)
def test_logits_of_the_lively_models_depend_on_the_image(name: str) -> None:
    """The other tests rest on it: a network that answers the same to everything hides every defect."""
    photo, noise = double(name)(images(name, 2)).detach()
    assert (photo - noise).abs().max() > 0.2 * photo.abs().max()
    assert photo.std() > 0.05 * photo.abs().max()


@pytest.mark.parametrize("name", MODELS)
def test_holds_known_operations_only(name: str) -> None:
    graph = reference(name).graph
    assert {node.op for node in graph.graph.nodes} == {"placeholder", "call_module", "output"}
    assert {type(op) for _, op in op_nodes(graph)} <= set(ops.OPS)


@pytest.mark.parametrize("name", MODELS)
def test_runs_at_another_batch_and_size(name: str) -> None:
    height, width = small_size(name)
    x = images(name, 2, (width, height + MODELS[name].multiple))
    assert relative(reference(name).graph(x), double(name)(x).detach()) <= EXACT


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_float64_and_capture_leaves_the_network_alone(name: str) -> None:
    floats = [b.dtype for b in reference(name).graph.buffers() if b.is_floating_point()]
    assert set(floats) == {torch.float64}
    assert {p.dtype for p in lively(name).parameters()} == {torch.float32}


@pytest.mark.parametrize("name", MODELS)
def test_states_its_size_and_multiple(name: str) -> None:
    spec, meta = MODELS[name], reference(name).graph.meta
    assert (meta["input_shape"], meta["multiple"]) == ((1, 3, *small_size(name)), spec.multiple)


@pytest.mark.parametrize("name", MODELS)
def test_shapes_are_those_of_a_run(name: str) -> None:
    graph = reference(name).graph
    found = shapes(graph, (1, 3, *small_size(name)))
    end = next(n for n in graph.graph.nodes if n.op == "output")
    assert found[end.args[0]] == tuple(double(name)(images(name)).shape)


class Calls(nn.Module):
    """A network that is one function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Shifted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.ones(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift


OUTSIDE: dict[str, tuple[Callable[[Tensor], Tensor] | nn.Module, str]] = {
    "another operation": (torch.tanh, "tanh"),
    "indexing": (lambda x: x[:, :, ::2], "slice"),
    "overlapping transposed convolution": (nn.ConvTranspose2d(3, 3, 3, 2), "transposed"),
    "transposed convolution with padding": (nn.ConvTranspose2d(3, 3, 2, 2, output_padding=1), "transposed"),
    "grouped transposed convolution": (nn.ConvTranspose2d(3, 3, 2, 2, groups=3), "transposed"),
    "oblong transposed convolution": (nn.ConvTranspose2d(3, 3, (1, 2), (1, 2)), "transposed"),
    "reflecting padding": (nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), "pad"),
    "concatenation along height": (lambda x: torch.cat([x, x], 2), "concatenation"),
    "overlapping pooling": (nn.AvgPool2d(3, 1), "pooling"),
    "pooling with padding": (nn.AvgPool2d(2, 2, 1), "pooling"),
    "oblong pooling": (nn.AvgPool2d((2, 1)), "pooling"),
    "pooling that rounds up": (nn.AvgPool2d(3, ceil_mode=True), "pooling"),
    "pooling with another divisor": (nn.AvgPool2d(2, divisor_override=3), "pooling"),
    "upsampling by a fraction": (lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear"), "upsampling"),
    "upsampling to a size": (lambda x: F.interpolate(x, size=(20, 24), mode="bilinear"), "upsampling"),
    "nearest upsampling": (lambda x: F.interpolate(x, scale_factor=2.0), "nearest"),
    "mean over width": (lambda x: x.mean(3, keepdim=True), "mean"),
    "mean without keepdim": (lambda x: x.mean((2, 3)), "mean"),
    "softmax over width": (lambda x: x.softmax(3), "softmax"),
    "maximum over height": (lambda x: x.amax(2, keepdim=True), "amax"),
    "maximum without keepdim": (lambda x: x.amax(1), "amax"),
    "reshape that is no shuffle": (lambda x: x.reshape(1, 12, 8, 8), "reshape"),
    "split without transposition": (lambda x: x.reshape(1, 3, 1, 16, 16).reshape(1, 3, 16, 16), "shuffle"),
    "another 5-D view": (lambda x: x.reshape(1, 3, 2, 8, 16).transpose(1, 2).reshape(1, 3, 16, 16), "shuffle"),
    "sum with a factor": (lambda x: torch.add(x, x.sigmoid(), alpha=2), "add"),
    "sum with a number": (lambda x: x + 2.0, "add"),
    "product with a number": (lambda x: x * 2.0, "mul"),
    "number minus a multiple": (lambda x: torch.rsub(x, 1.0, alpha=2), "rsub"),
    "sum with a parameter": (nn.Sequential(Shifted()), "add"),
    "dropout": (nn.Dropout(), "dropout"),
    "batch norm without statistics": (nn.BatchNorm2d(3, track_running_stats=False), "batch norm"),
    "batch norm without parameters": (nn.BatchNorm2d(3, affine=False), "batch norm"),
}


@pytest.mark.parametrize("what", OUTSIDE)
def test_refuses_what_it_does_not_know_and_names_it(what: str) -> None:
    """Refused, never captured as something else."""
    network, said = OUTSIDE[what]
    with pytest.raises(Unsupported, match=said) as caught:
        capture(network if isinstance(network, nn.Module) else Calls(network), 16, 16)
    assert "\n" not in str(caught.value)


INSIDE: dict[str, nn.Module] = {
    "shuffle of three groups": Calls(
        lambda x: torch.cat([x, x.sigmoid()], 1).reshape(1, 3, 2, 16, 16).transpose(1, 2).reshape(1, 6, 16, 16)
    ),
    "shuffle made contiguous": Calls(
        lambda x: torch.cat([x, 1 - x], 1).reshape(1, 2, 3, 16, 16).transpose(1, 2).contiguous().reshape(1, 6, 16, 16)
    ),
    "one slope for all channels": nn.PReLU(),
    "bias and stride": nn.Conv2d(3, 4, (3, 5), (1, 2), (1, 2), (1, 1)),
    "dilation and groups": nn.Conv2d(3, 6, 3, 2, 2, 2, groups=3),
    "transposed convolution": nn.ConvTranspose2d(3, 5, 2, 2),
    "number minus": Calls(lambda x: 1 - x),
    "shared parameters": nn.Sequential(*[nn.Conv2d(3, 3, 1)] * 2),
    "batch norm": nn.BatchNorm2d(3, eps=1e-3),
}


@pytest.mark.parametrize("what", INSIDE)
def test_captures_small_networks_exactly(what: str) -> None:
    network = INSIDE[what].double().eval()
    x = torch.randn(1, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert relative(capture(network, 16, 16)(x).detach(), network(x).detach()) <= EXACT
