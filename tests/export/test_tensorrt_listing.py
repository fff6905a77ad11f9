"""The compiler's list of layers: read as it is printed, and held against what was asked."""

from __future__ import annotations

import pytest

from lightseg.errors import Unsupported
from lightseg.export.tensorrt.listing import Row, check_precision, quantised, rows_in, summary
from lightseg.export.tensorrt.network import Step, Value, Walked


def _value(name: str, dims: str, kind: str) -> str:
    return (
        f"{{ Name: {name}, Dimensions: [{dims}], Strides: [{dims}], StrideOrder: [3,0,2,1], Datatype: {kind}, "
        "Format: (NHWC) Channel major format }"
    )


def _line(name: str, kind: str, inputs: str, constants: str, outputs: str, *origins: str) -> str:
    metadata = "".join(f"[ONNX Layer: {origin}]" for origin in origins)
    return (
        f"Name: {name}, LayerType: {kind}, Inputs: [ {inputs}], Constants: [ {constants}], Outputs: [ {outputs}], "
        f"TacticName: __myelin_CASK_STUB, StreamId: 0, Metadata: {metadata}"
    )


HALF = _value("a", "1,6,8,8", "Half")
FLOAT = _value("b", "1,6,8,8", "Float")
ONE, WEIGHT = _value("factor", "1", "Float"), _value("w", "6,6,1,1", "Half")
LISTING = "Layers:\n" + "\n".join(
    [
        _line("cast_0", "kgen", FLOAT, "", HALF, "image_half"),
        _line("conv_1", "correlation", HALF, f"{WEIGHT}, {ONE}", HALF, "conv"),
        "Name: w_2, LayerType: wait, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 1, EventId: 1, "
        "Metadata: ",
        _line("fused_3", "kgen", f"{HALF}, {HALF}", "", HALF, "act", "add"),
        _line("cast_4", "kgen", HALF, "", FLOAT, "logits"),
    ]
)  # fmt: skip

SHAPE = (1, 6, 8, 8)


def _step(kind: str, name: str, inputs: tuple[str, ...], element: str) -> Step:
    return Step(kind, name, inputs, (Value(name, element, SHAPE),), {}, name)


NETWORK = Walked(
    Value("image", "FLOAT", SHAPE),
    Value("logits", "FLOAT", SHAPE),
    (
        _step("CAST", "image_half", ("image",), "HALF"),
        _step("CONVOLUTION", "conv", ("image_half",), "HALF"),
        _step("PARAMETRIC_RELU", "act", ("conv",), "HALF"),
        _step("ELEMENTWISE", "add", ("act", "conv"), "HALF"),
        _step("CAST", "logits", ("add",), "FLOAT"),
    ),
    "1",
)


def test_a_listing_is_read_as_it_is_printed() -> None:
    rows = rows_in(["something else", LISTING])
    assert [row.name for row in rows] == ["cast_0", "conv_1", "w_2", "fused_3", "cast_4"]
    assert rows[1] == Row("conv_1", "correlation", ("Half", "Half"), ("Half",), ("conv",))  # its factor is no value
    assert rows[3].origins == ("act", "add")
    assert summary(rows, NETWORK) == {
        "layers": 4,
        "fused": 1,
        "network layers": 5,
        "kinds": {"correlation": 1, "kgen": 3},
        "types": {"Float to Half": 1, "Half": 2, "Half to Float": 1},
        "int8 convolutions": 0,
    }
    check_precision(rows, NETWORK, "x")


WRONG = {
    "a convolution in float32": (
        f"correlation, Inputs: [ {HALF}",
        f"correlation, Inputs: [ {FLOAT}",
        "conv_1 .* Float, Half",
    ),
    "a result in float32": (f"[ {HALF}], TacticName", f"[ {FLOAT}], TacticName", "computes in"),
    "weights in eight bits": (WEIGHT, WEIGHT.replace("Half", "Int8"), "in Half, Int8 where the network says Half"),
    "no convolution": ("[ONNX Layer: conv]", "", "no CONVOLUTION conv"),
    "a cast nobody wrote": ("[ONNX Layer: image_half]", "", "cast_0 computes in Float, Half"),
}


@pytest.mark.parametrize("what", WRONG)
def test_another_type_than_asked_for_is_refused(what: str) -> None:
    old, new, said = WRONG[what]
    assert old in LISTING
    with pytest.raises(Unsupported, match=said) as caught:
        check_precision(rows_in([LISTING.replace(old, new)]), NETWORK, "x")
    assert "\n" not in str(caught.value)


def test_no_listing_is_refused() -> None:
    with pytest.raises(Unsupported, match="lists no layers"):
        check_precision(rows_in(["nothing of the kind"]), NETWORK, "x")


def test_a_convolution_is_int8_where_both_sides_are_read_as_int8() -> None:
    grid = _step("DEQUANTIZE", "grid", ("image",), "FLOAT")
    weight = _step("DEQUANTIZE", "weight", ("stored",), "FLOAT")
    conv = _step("CONVOLUTION", "conv", ("grid", "weight"), "FLOAT")
    network = Walked(NETWORK.input, NETWORK.output, (grid, weight, conv), "1")
    assert quantised(network) == ["conv"] and quantised(NETWORK) == []
    both = Row("c", "correlation", ("Int8", "Int8", "Float"), ("Float",), ("conv",))
    one = Row("c", "correlation", ("Float", "Int8", "Float"), ("Float",), ("conv",))
    assert summary([both], network)["int8 convolutions"] == 1
    assert summary([one], network)["int8 convolutions"] == 0
