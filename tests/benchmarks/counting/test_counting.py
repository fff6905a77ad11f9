"""Exact counts: one walk against the facts of each model, torch's own counter, and sums done by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lightseg.benchmarks.counting.cost import Constant, Cost, Op, Role, Tensor, differences, total
from lightseg.benchmarks.counting.model import count_model
from lightseg.benchmarks.counting.tflite_file import count_tflite
from lightseg.errors import BadInput, Unsupported
from lightseg.zoo import MODELS


@cache
def counted(name: str) -> Cost:
    return count_model(MODELS[name].build(), MODELS[name].input_size)


@pytest.mark.parametrize("name", MODELS)
def test_params_and_macs_are_the_declared_ones(name: str) -> None:
    assert (counted(name).params, counted(name).macs) == (MODELS[name].params, MODELS[name].macs)


@pytest.mark.parametrize("name", MODELS)
def test_parameters_by_role_are_all_of_the_networks_parameters(name: str) -> None:
    with torch.device("meta"):
        net = MODELS[name].build()
    buffers = sum(b.numel() for b in net.buffers() if b.is_floating_point())
    assert counted(name).params == sum(p.numel() for p in net.parameters())
    assert counted(name).elements["buffer"] == buffers


@pytest.mark.parametrize("name", MODELS)
def test_torch_counts_twice_the_macs_as_flops(name: str) -> None:
    spec = MODELS[name]
    with torch.device("meta"):
        net, image = spec.build().eval(), torch.empty(1, 3, *spec.input_size)
    with FlopCounterMode(display=False) as counter:
        net(image)
    assert counted(name).flops == counter.get_total_flops()


def test_macs_and_traffic_grow_with_the_batch_and_parameters_do_not() -> None:
    net = MODELS["sinet"].build()
    one, two = (count_model(net, (64, 64), batch) for batch in (1, 2))
    assert two.macs == 2 * one.macs
    assert two.peak_activation_bytes == 2 * one.peak_activation_bytes
    assert one.bytes_moved < two.bytes_moved < 2 * one.bytes_moved
    assert two.params == one.params


def test_small_network_by_hand() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.PReLU(8),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.ConvTranspose2d(8, 4, 2, 2, bias=False),
    )
    cost = count_model(net, (16, 16))
    assert [layer.kind for layer in cost.layers] == ["conv", "norm", "activation", "depthwise", "transposed conv"]
    assert [layer.macs for layer in cost.layers] == [8 * 64 * 27, 0, 0, 8 * 64 * 9, 8 * 64 * 4 * 4]
    assert [layer.params for layer in cost.layers] == [216, 16, 8, 80, 128]
    assert cost.layers[0].bytes_read == 4 * (3 * 256 + 216)
    assert cost.layers[0].bytes_written == 4 * 8 * 64
    assert cost.peak_activation_bytes == 4 * (8 * 64 + 4 * 256)  # while the last operator runs
    assert cost.folded["affine"] == 0
    assert cost.folded["bias"] == 8 + 8


def test_views_share_memory_and_move_nothing() -> None:
    cost = total(
        "by hand",
        [
            Op("a", "Reshape", "view", ("x",), ("v",)),
            Op("b", "Add", "elementwise", ("v", "x"), ("y",), (Constant("c", "affine", 5, 20),)),
            Op("c", "Mul", "elementwise", ("y",), ("z",), (Constant("c", "affine", 5, 20),)),
        ],
        {"x": Tensor((10,), 40), "v": Tensor((2, 5), 40), "y": Tensor((10,), 40), "z": Tensor((10,), 40)},
        ["x"],
        ["z"],
    )
    assert cost.bytes_moved == (40 + 40 + 20 + 40) + (40 + 20 + 40)
    assert cost.peak_activation_bytes == 80
    assert cost.params == 5  # a constant two operators read is stored once
    assert cost.ops == {"elementwise": 2}


def test_norms_fold_only_into_convolutions_nobody_else_reads() -> None:
    conv = Op("conv", "conv", "conv", ("x",), ("a",), (Constant("w", "weight", 9, 36),), macs=90)
    norm = Op("norm", "norm", "norm", ("a",), ("b",), (Constant("s", "affine", 3, 12), Constant("t", "affine", 3, 12)))
    tensors = {name: Tensor((3, 10), 120) for name in "xabc"}
    alone = total("", [conv, norm], tensors, "x", "b")
    shared = total("", [conv, norm, Op("add", "add", "elementwise", ("a", "b"), ("c",))], tensors, "x", "c")
    assert (alone.folded["affine"], alone.folded["bias"]) == (0, 3)
    assert (shared.folded["affine"], shared.folded["bias"]) == (6, 0)


def test_differences_names_what_differs() -> None:
    cost = counted("sinet")
    exported = replace(cost, elements=cost.folded)
    assert differences(cost, exported) == ()
    lost = replace(exported, layers=cost.layers[1:], elements={**cost.folded, "weight": 5, "bias": 6, "slope": 10_000})
    assert [d.split(" ")[0] for d in differences(cost, lost)] == ["MACs", "weight", "bias", "slope"]


@pytest.mark.parametrize(
    ("change", "agrees"),
    [
        ({"bias": -84, "zero bias": 84}, True),  # a dead layer's folded bias is zero everywhere
        ({"bias": -84, "zero bias": 83}, False),
        ({"zero bias": 500}, True),  # a format that wants a bias everywhere
        ({"affine": -100}, True),  # scales of one are left out
        ({"affine": 1}, False),
        ({"slope": -2122}, True),
        ({"slope": -2122, "affine": -1000}, False),
    ],
)
def test_what_a_writer_may_leave_out(change: dict[Role, int], agrees: bool) -> None:
    cost = counted("sinet")
    elements = {role: count + change.get(role, 0) for role, count in cost.folded.items()}
    assert (differences(cost, replace(cost, elements=elements)) == ()) is agrees


def test_an_operator_without_a_rule_is_refused() -> None:
    class Product(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ x

    with pytest.raises(Unsupported, match="no rule to count the MACs of aten::matmul"):
        count_model(Product(), (8, 8))


@pytest.mark.parametrize(
    ("file", "macs"), [("selfie_segmentation", 59_215_744), ("selfie_segmentation_landscape", 33_324_928)]
)
def test_foreign_tflite_file_with_half_precision_weights(shared: Path, file: str, macs: int) -> None:
    pytest.importorskip("ai_edge_litert")
    cost = count_tflite(shared / "peers" / f"{file}.tflite")
    assert (cost.params, cost.macs) == (106_401, macs)
    assert "cast" not in cost.ops  # unpacking stored weights is no work on activations


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\0\0\0\0TFL3\xff\xff"])
def test_damaged_tflite_file(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("ai_edge_litert")
    path = tmp_path / "bad.tflite"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="not a readable TFLite model"):
        count_tflite(path)
    with pytest.raises(BadInput, match="no file"):
        count_tflite(tmp_path / "absent.tflite")
