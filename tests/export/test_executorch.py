"""ExecuTorch end to end: everything in one call of the delegate, notes behind the program, and refusals in one line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import fx, nn

from lightseg.errors import BadInput, ParityError, Unsupported
from lightseg.export import load, verify
from lightseg.export.graph import ops
from lightseg.export.targets import executorch
from lightseg.export.targets.executorch import ExecuTorchRunner, program_of, quiet
from lightseg.export.writers.pte import MAGIC, read_pte, split, with_notes
from lightseg.export.writers.xnnpack import xnn_graph
from tests.export.conftest import Exported
from tests.export.graph_builder import Builder
from tests.export.subjects import graph_of, images, relative, require, small_size
from tests.export.test_coreml import replace_first_weight
from tests.export.written import ROUNDING, noise, run_written


@pytest.fixture(autouse=True)
def _installed() -> None:
    require("executorch")


@pytest.fixture
def alone(exported: Exported, tmp_path: Path) -> Path:
    """A copy of a small artifact without its sidecar."""
    artifact = exported("sinet", "executorch")
    return Path(shutil.copy(artifact.path, tmp_path / artifact.path.name))


def test_all_is_delegated_in_one_call_and_said(exported: Exported) -> None:
    artifact = exported("sinet", "executorch")
    assert artifact.parity is not None
    said = artifact.parity["runner"]
    assert (said["delegate"], said["partitions"], said["outside"]) == ("XnnpackBackend", "1", "nothing")
    assert (said["weights"], said["arithmetic"]) == ("float32", "float32 between operations")
    assert (said["threads"], said["version"]) == ("1", artifact.versions["executorch"])


def test_float16_is_stored_and_handed_on(exported: Exported) -> None:
    wide, narrow = (exported("sinet", "executorch", precision=p) for p in ("fp32", "fp16"))
    assert wide.parity is not None and narrow.parity is not None
    said = narrow.parity["runner"]
    assert (said["weights"], said["arithmetic"]) == ("float16", "float16 between operations")
    assert narrow.parity["relative_error"] > 10 * wide.parity["relative_error"]
    sizes = [sum(map(len, read_pte(program_of(a.path)).constants.values())) for a in (wide, narrow)]
    assert sizes[1] < 0.55 * sizes[0]


def test_a_weight_beyond_float16_is_refused() -> None:
    huge = replace_first_weight(graph_of("sinet"), 1e6)
    with quiet(), pytest.raises(Unsupported, match=r"has a weight of 1e\+06, beyond the 65504.*--precision fp32"):
        xnn_graph(huge, (1, 3, *small_size("sinet")), "image", "logits", half=True)


def test_what_the_program_calls_is_read_from_the_program(alone: Path) -> None:
    """A program with an operation outside the delegate says so."""
    from executorch.exir import schema as s
    from executorch.exir._serialize._program import deserialize_pte_binary, serialize_pte_binary

    file = deserialize_pte_binary(program_of(alone))
    plan = file.program.execution_plan[0]
    plan.operators.append(s.Operator("aten::clone", "out"))
    plan.chains[0].instructions.append(s.Instruction(s.KernelCall(0, [0, 1])))
    found = executorch._inside(bytes(serialize_pte_binary(file, extract_delegate_segments=True)))
    assert (found["delegate"], found["partitions"], found["outside"]) == ("XnnpackBackend", "1", "aten::clone")


def test_the_runtime_reads_the_program_and_not_the_notes_behind_it(alone: Path) -> None:
    """Other people's runtimes get the whole file."""
    with quiet():
        from executorch.runtime import Runtime

    program = Runtime.get().load_program(alone)
    x = images("sinet").float()
    method = program.load_method("forward")
    assert method is not None
    np.testing.assert_array_equal(method.execute([x])[0].numpy(), load(alone)(x.numpy()))


def test_notes_are_kept_and_added_to(alone: Path) -> None:
    program, notes = split(alone.read_bytes())
    assert notes.keys() == {"values", "record"} and program_of(alone) == program
    assert split(with_notes(alone.read_bytes(), record="other")) == (program, notes | {"record": "other"})
    assert split(program) == (program, {})


def test_running_again_without_feeding_answers_the_same(alone: Path) -> None:
    runner = load(alone)
    runner.feed(images("sinet").numpy())
    runner.run()
    first = np.array(runner.fetch())
    runner.run()
    np.testing.assert_array_equal(runner.fetch(), first)


def test_two_files_at_once_do_not_disturb_each_other(alone: Path, exported: Exported) -> None:
    one, other = load(alone), load(exported("extremec3net", "executorch").path)
    first = one(images("sinet").numpy())
    other(images("extremec3net").numpy())
    np.testing.assert_array_equal(one.fetch(), first)


THREADS = """
import sys
from lightseg.errors import Unsupported
from lightseg.export import load
from executorch.extension.pybindings.portable_lib import _threadpool_get_thread_count
first = load(sys.argv[1], 2)
assert (_threadpool_get_thread_count(), first.details["threads"]) == (2, "2")
try:
    load(sys.argv[1], 1)
except Unsupported as error:
    assert "another process" in str(error), error
    del first
    load(sys.argv[1], 1)
    assert _threadpool_get_thread_count() == 1
    sys.exit(7)
"""


@pytest.mark.slow
def test_the_pool_of_threads_is_not_replaced_under_a_loaded_program(alone: Path) -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", THREADS, str(alone)], capture_output=True, text=True)
    assert done.returncode == 7, done.stderr


def _change(path: Path, at: int, data: bytes) -> None:
    old = path.read_bytes()
    at %= len(old)
    path.write_bytes(old[:at] + data + old[at + len(data) :])


def _only(path: Path, start: int, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[start : int(share * len(data))])


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda p: p.write_bytes(b""), "no ExecuTorch program"),
    "cut": (lambda p: _only(p, 0, 0.6), "no lightseg record"),
    "cut by a byte": (lambda p: p.write_bytes(p.read_bytes()[:-1]), "no lightseg record"),
    "first bytes lost": (lambda p: _only(p, 8, 1), "no ExecuTorch program"),
    "a weight changed": (lambda p: _change(p, -100_000, b"\xff" * 40), "its checksum differs"),
    "notes changed": (lambda p: _change(p, -600, b"\0\1\2"), "its checksum differs"),
    "notes of another length": (lambda p: _change(p, -20, b"\xff" * 8), "its checksum differs"),
    "another version of the format": (lambda p: _change(p, 4, b"ET99"), "no ExecuTorch program"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_one_clear_line(damage: str, alone: Path) -> None:
    do, said = DAMAGE[damage]
    do(alone)
    with pytest.raises(BadInput, match=said) as caught:
        verify(alone)
    assert "\n" not in str(caught.value) and "export it again" in str(caught.value)


def test_a_program_shorter_than_its_header_says_is_not_run(alone: Path) -> None:
    _only(alone, 0, 0.6)
    with pytest.raises(BadInput, match=r"cut short.*export it again"):
        load(alone)


def test_a_program_that_is_no_program_is_refused_by_the_runtime(alone: Path) -> None:
    """The checksum is right, so the runtime itself has to say no."""
    program, notes = split(alone.read_bytes())
    broken = program[:64] + bytes(range(256)) + program[320:]
    alone.write_bytes(with_notes(broken, **notes))
    assert alone.read_bytes().endswith(MAGIC)
    with pytest.raises(BadInput, match=r"does not load in ExecuTorch.*export it again") as caught:
        load(alone)
    assert "\n" not in str(caught.value)


def test_goldens_catch_a_changed_weight(alone: Path) -> None:
    program, notes = split(alone.read_bytes())
    largest = max(read_pte(program).constants.values(), key=len)
    assert program.count(largest) == 1
    values = np.frombuffer(largest, np.float32)
    alone.write_bytes(with_notes(program.replace(largest, np.roll(values, 1).tobytes()), **notes))
    with pytest.raises(ParityError, match="golden output"):
        verify(alone)


def test_without_pytorch_one_line_says_so(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executorch, "find_spec", lambda name: None)
    with pytest.raises(Unsupported, match="pip install torch"):
        ExecuTorchRunner(alone, 1)


@pytest.mark.parametrize("count", [2, 5, 6, 9, 10])
def test_any_number_of_values_is_joined(count: int) -> None:
    b = Builder((1, 3, 6, 5), seed=count)
    parts = [b.call(b.conv(3, 1 + i % 3), b.image) for i in range(count)]
    graph, x = b.finish(b.call(ops.Concat(), *parts)), noise((1, 3, 6, 5))
    assert relative(run_written("executorch", graph, x), graph(x)) <= ROUNDING


@pytest.mark.parametrize("channels", [1, 2, 3, 19, 20])
def test_the_first_of_equal_channels_wins(channels: int) -> None:
    """Written with rounding and maxima, as the delegate has no argmax; whole numbers make many ties."""
    b = Builder((1, channels, 7, 6), seed=1)
    graph = b.finish(b.call(ops.ArgMax(), b.image))
    x = noise((1, channels, 7, 6)).mul(2).round()
    want = graph(x).numpy()
    np.testing.assert_array_equal(run_written("executorch", graph, x, "mask"), want)


class Named(nn.Module):
    """Twice a convolution and a batch norm, under names of the caller's choice."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.add_module(first, _conv_norm())
        self.add_module(second, nn.Sequential(_conv_norm()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.children():
            x = block(x).relu()
        return x


def _conv_norm() -> nn.Sequential:
    norm = nn.BatchNorm2d(4)
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), norm)


def _lowered(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """``network`` through ExecuTorch's own road: export, edge program, partitioner, passes."""
    with quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        program = torch.export.export(network.eval(), (x,))
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
        method, _program = executorch.runtime_method(bytes(lowered.buffer))
    result: torch.Tensor = method([x])[0]
    return result.clone()


@pytest.mark.slow
@pytest.mark.parametrize(("first", "right"), [("other", True), ("level_0", False)])
def test_why_executorchs_own_lowering_is_not_used(first: str, right: bool) -> None:
    """1.5.1 names fused weights after the parameter with dots as underscores and takes what has the name already.

    So ``level_0.0.weight`` and ``level.0.0.weight`` become one, without a word. Should this fail for ``level_0``, a
    later version has mended it.
    """
    network = Named(first, "level").eval()
    x = noise((1, 4, 8, 8)).float()
    error = relative(_lowered(network, x), network(x).detach())
    assert error < 1e-5 if right else error > 0.5


@pytest.mark.slow
def test_our_writer_and_executorchs_lowering_agree() -> None:
    """The same graph by both roads, whose names cannot collide: our graphs have no dots."""
    graph: fx.GraphModule = graph_of("sinet")
    x = images("sinet", size=small_size("sinet"))
    ours = run_written("executorch", graph, x)
    theirs = _lowered(graph.float(), x.float())
    assert relative(ours, theirs) < ROUNDING
