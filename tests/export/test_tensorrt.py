"""TensorRT-RTX end to end, without a GPU: what is proven, what is refused, and what stays unproven is said."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightseg.errors import BadInput, Unsupported
from lightseg.export import load, verify
from lightseg.export.cli import main
from lightseg.export.targets import TARGETS, find_target
from lightseg.export.targets.folder import RECORD
from lightseg.export.targets.onnx import onnx_bytes
from lightseg.export.tensorrt.artifact import BUILD, NETWORK, read_build
from lightseg.export.tensorrt.device import check_version, fitting
from lightseg.export.tensorrt.engines import HERE, Engine, capabilities, compile_engine
from lightseg.export.tensorrt.interpreter import read_program
from lightseg.export.tensorrt.typed import typed
from lightseg.export.tensorrt.vendor import parse, vendor
from tests.export.conftest import Exported
from tests.export.subjects import graph_of, images, relative, require
from tests.export.test_coreml import replace_first_weight
from tests.export.written import plan_of

MODULE = "tensorrt_rtx"
SM = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")


@pytest.fixture(autouse=True)
def _installed() -> None:
    require(MODULE)


@pytest.fixture(scope="module")
def compiled(exported: Exported) -> Any:
    """The small SINet with two engines."""
    return exported("sinet", MODULE, precision="fp16", capabilities=("portable", "8.6"))


@pytest.fixture
def alone(compiled: Any, tmp_path: Path) -> Path:
    """A copy without its sidecar."""
    return Path(shutil.copytree(compiled.path, tmp_path / f"alone.{MODULE}"))


def test_the_record_holds_the_three_proofs(compiled: Any) -> None:
    said, engines = compiled.parity["runner"], compiled.facts["engines"]
    assert said["runtime"] == "reference interpreter" and said["parser"].startswith(f"{MODULE} ")
    assert said["arithmetic"].startswith("float16 after every layer")
    assert sum(compiled.facts["layers"].values()) == int(said["layers"]) > 100
    assert [e["capability"] for e in engines] == ["portable", "8.6"]
    for engine in engines:
        data = (compiled.path / engine["file"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (engine["bytes"], engine["sha256"])
        assert engine["version"] == vendor(MODULE).__version__ and engine["version"] in engine["file"]
        assert engine["tf32"] is False
        listing = engine["listing"]
        assert listing["types"]["Half"] > 0.9 * listing["layers"] and "Float" not in listing["types"]
        assert listing["fused"] and listing["network layers"] > listing["layers"]
    assert "on a GPU" in said["unproven"]
    assert json.loads(compiled.sidecar.read_text())["facts"] == compiled.facts


def test_the_folder_has_what_the_record_says(compiled: Any) -> None:
    files = {p.name for p in compiled.path.iterdir()}
    assert files == {NETWORK, BUILD, RECORD, *(e["file"] for e in compiled.facts["engines"])}
    assert compiled.path.name.endswith(f"-portable_8.6.{MODULE}")
    assert verify(compiled.path).goldens


def test_an_engine_is_the_same_when_compiled_again(compiled: Any) -> None:
    data = (compiled.path / NETWORK).read_bytes()
    content, engine = compile_engine(MODULE, data, "8.6", "again")
    assert engine.sha256 == compiled.facts["engines"][1]["sha256"]
    assert engine.bytes == len(content)


def test_float32_stays_float32_and_tf32_is_off(exported: Exported) -> None:
    data = (exported("sinet", MODULE).path / NETWORK).read_bytes()
    _, engine = compile_engine(MODULE, data, "portable", "float32")
    assert set(engine.listing["types"]) == {"Float"} and not engine.tf32


@pytest.mark.parametrize(
    ("capability", "error", "said"),
    [
        ("9.0", Unsupported, r"refuses compute capability 9\.0: .*invalid or not supported; it has 7\.5, 8\.0, 8\.6"),
        ("sm86", BadInput, r"'sm86' is no compute capability; .*8\.6, or portable"),
        ("8", BadInput, "'8' is no compute capability"),
        (HERE, Unsupported, "(refuses|does not compile).*this-gpu: .*"),
    ],
)
def test_a_capability_nobody_compiles_for_is_refused(
    capability: str, error: type[Exception], said: str, exported: Exported
) -> None:
    if capability == HERE and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    data = (exported("sinet", MODULE).path / NETWORK).read_bytes()
    with pytest.raises(error, match=said) as caught:
        compile_engine(MODULE, data, capability, "x")
    assert "\n" not in str(caught.value)


def test_the_command_says_what_it_compiled_and_what_is_unproven(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--model", "sinet", "--weights", "random", "--input-size", "64x64", "--out", str(tmp_path)]
    assert main([*command, "--to", MODULE]) == 0
    said = capsys.readouterr().out
    assert "compiled for portable" in said and "not proven: that the engines compute this on a GPU" in said
    for more, reason in (
        (["--to", "onnx", "--capability", "8.6"], "--capability is for --to tensorrt_rtx or tensorrt; leave it"),
        (["--to", MODULE, "--capability", ","], "names nothing"),
        (["--to", MODULE, "--capability", "sm86"], "'sm86' is no compute capability"),
    ):
        assert main([*command, *more]) == 1
        assert reason in capsys.readouterr().err


def _shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _rename_kind(path: Path) -> None:
    """An operation no parser knows, in the middle of a sound file."""
    data = path.read_bytes()
    path.write_bytes(data.replace(b"AveragePool", b"AveragePlol", 1))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no network": (lambda p: (p / NETWORK).unlink(), f"has no {NETWORK}"),
    "network cut": (lambda p: _shorten(p / NETWORK), f"{MODULE} .* refuses the file: .*Failed to parse"),
    "network empty": (lambda p: (p / NETWORK).write_bytes(b""), "refuses the file|inputs and .* outputs"),
    "an unknown operation": (lambda p: _rename_kind(p / NETWORK), "refuses AveragePlol .*Plugin not found"),
    "no build record": (lambda p: (p / BUILD).unlink(), f"has no {BUILD}"),
    "a broken build record": (lambda p: (p / BUILD).write_text("{}"), f"{BUILD} is damaged"),
    "an engine cut": (lambda p: _shorten(next(p.glob("sm86*"))), r"sm86.*is not the engine .*sha256 differs"),
    "no engine": (lambda p: next(p.glob("sm86*")).unlink(), "has no sm86"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_one_clear_line(damage: str, alone: Path) -> None:
    do, said = DAMAGE[damage]
    do(alone)
    for use in (load, verify):
        with pytest.raises(BadInput, match=said) as caught:
            use(alone)
        assert "\n" not in str(caught.value) and "export it again" in str(caught.value)


def test_a_refusal_names_the_node_and_the_reason() -> None:
    """As TensorRT-RTX says it: halves times floats."""
    import onnx

    model = onnx.load_from_string(typed(onnx_bytes(plan_of(graph_of("sinet"))), "fp16"))
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    casts[0].attribute[0].i = onnx.TensorProto.FLOAT
    with pytest.raises(BadInput, match=r"refuses Conv \w+: .*(Half|Float|type)") as caught:
        parse(MODULE, model.SerializeToString(), "mixed")
    assert "\n" not in str(caught.value) and "_src" not in str(caught.value)


@pytest.mark.parametrize("baked", [False, True])
def test_types_stand_in_the_network(baked: bool, exported: Exported) -> None:
    """Float16 between the casts; an image is normalised in float32, where its factors keep their digits."""
    artifact = exported("sinet", MODULE, precision="fp16", preprocess="baked" if baked else "none")
    network = read_program(MODULE, artifact.path, (artifact.path / NETWORK).read_bytes()).network
    assert (network.input.element, network.output.element) == ("UINT8" if baked else "FLOAT", "FLOAT")
    by_name = {value.name: value.element for step in network.steps for value in step.outputs}
    convs = [s for s in network.steps if s.kind == "CONVOLUTION"]
    first, *rest = convs
    assert by_name[first.outputs[0].name] == ("FLOAT" if baked else "HALF")
    assert {by_name[s.outputs[0].name] for s in rest} == {"HALF"}
    assert all(s.attributes["kernel"].dtype == np.float16 for s in rest)


def test_a_weight_beyond_float16_is_refused_by_name(tmp_path: Path) -> None:
    plan = replace(plan_of(replace_first_weight(graph_of("sinet"), 1e6)), precision="fp16")
    with pytest.raises(Unsupported, match=r"weight of 1e\+06, beyond the 65504.*--precision fp32"):
        TARGETS[MODULE].convert(plan, tmp_path)


def test_the_interpreter_is_the_graph_in_float64() -> None:
    graph = graph_of("sinet")
    x = images("sinet")
    program = read_program(MODULE, Path("made"), typed(onnx_bytes(plan_of(graph)), "fp32"))
    assert relative(program.run(x, torch.float64), graph(x)) < 1e-6


def _engine(capability: str, version: str = "1.7.1.116") -> Engine:
    return Engine(capability, f"{capability}.engine", version, 1, "", 0.0, False, {"int8 convolutions": 0})


@pytest.mark.parametrize(
    ("has", "gpu", "chosen"),
    [
        (("portable", "8.6"), "8.6", "8.6"),
        (("portable", "8.6"), "8.9", "portable"),
        (("portable",), "7.5", None),  # portable means Ampere and later
        (("portable",), "9.0", None),  # a GPU this compiler does not know
        (("8.6",), "8.9", None),
        ((HERE,), "9.0", HERE),
        ((), "8.6", None),
    ],
)
def test_the_engine_for_a_gpu(has: tuple[str, ...], gpu: str, chosen: str | None) -> None:
    found = fitting([_engine(c) for c in has], gpu, SM)
    assert (found and found.capability) == chosen


def test_the_compiler_knows_the_capabilities_the_table_names() -> None:
    assert set(SM) <= set(capabilities(vendor(MODULE)))


def test_an_engine_of_another_version_is_one_line() -> None:
    check_version(Path("a"), _engine("8.6"), MODULE, "1.7.1.116")
    with pytest.raises(
        BadInput, match=r"compiled by tensorrt_rtx 1\.7\.1\.116; 1\.8\.0\.1, which is installed"
    ) as caught:
        check_version(Path("a"), _engine("8.6"), MODULE, "1.8.0.1")
    assert "\n" not in str(caught.value)


def test_where_no_engine_fits_the_gpu_the_interpreter_says_so(compiled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightseg.export.targets.tensorrt.gpu", lambda: ("NVIDIA H200", "9.0"))
    runner = load(compiled.path)
    assert runner.name == "reference interpreter"
    assert runner.details["unproven"].endswith("none is for NVIDIA H200 (compute capability 9.0)")


def test_a_package_that_does_not_load_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise ImportError("libnvonnxparser.so.11: cannot open shared object file\nmore")

    monkeypatch.setattr("lightseg.export.tensorrt.vendor.import_module", broken)
    with pytest.raises(
        Unsupported, match=r"tensorrt is installed but does not load \(libnvonnxparser.*--to tensorrt_rtx"
    ):
        vendor("tensorrt")


def test_the_two_packages_share_one_implementation() -> None:
    rtx, full = find_target(MODULE), find_target("tensorrt")
    assert (rtx.capabilities, full.capabilities) == (("portable",), (HERE,))
    assert rtx.convert_needs == ("onnx", MODULE) and full.convert_needs == ("onnx", "tensorrt")
    assert rtx.precisions == full.precisions


def test_the_build_record_reads_back(compiled: Any) -> None:
    build = read_build(compiled.path)
    assert build.to_dict() == compiled.facts and build.int8_layers == 0
