"""The emulated ARM processor: every reason it cannot be had, what the set-up does, and what is read from it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lightseg.benchmarks import cli
from lightseg.benchmarks.arm64 import build as setting_up
from lightseg.benchmarks.arm64 import root as roots
from lightseg.benchmarks.arm64.build import SetupFailed, build, find_debs, parse_uris, plan, wheel_command
from lightseg.benchmarks.arm64.emulate import Emulated, count_emulated, emulate, emulate_all, read_counts
from lightseg.benchmarks.arm64.root import Root, default_root, why_not
from lightseg.benchmarks.arm64.table import emulated_table, notes
from lightseg.benchmarks.counting import mode as counting_mode
from lightseg.benchmarks.counting.instructions import COUNTED_MODULE, Instructions
from lightseg.benchmarks.timing.process import Failed
from lightseg.errors import LightsegError, ParityError, Unsupported

Capture = pytest.CaptureFixture[str]
URIS = """Reading package lists...
'http://mirror/pool/l/libc6_2.36-9_arm64.deb' libc6_2.36-9_arm64.deb 2500000 SHA256:00ff
'http://mirror/pool/p/python3.11-minimal_3.11.2-6_arm64.deb' python3.11-minimal_3.11.2-6_arm64.deb 1800000 MD5Sum:00
"""
READY = {"format": roots.FORMAT, "python": "3.11", "packages": {"onnxruntime": "1.31.1"}}


@pytest.fixture
def root(tmp_path: Path) -> Root:
    (tmp_path / "ready.json").write_text(json.dumps(READY))
    return Root(tmp_path)


@pytest.fixture
def qemu(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An emulator on the path that says what a test wants."""
    said = {"--version": "qemu-aarch64 version 7.2.22 (Debian 1:7.2)", "-help": "-L path\n-plugin [file=]<file>"}
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(roots, "_said", said.__getitem__)
    return said


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, None),
        ({"--version": "qemu-aarch64 version 9.1.0"}, "from 4.2 to before 9.0, not 9.1"),
        ({"--version": ""}, "an unreadable version"),
        ({"-help": "-L path"}, r"apt-get install qemu-user \(not -static\)"),
    ],
)
def test_an_emulator_that_cannot_count(
    changes: dict[str, str], says: str | None, qemu: dict[str, str], root: Root
) -> None:
    qemu.update(changes)
    if says is None:
        assert why_not(root) is None
    else:
        with pytest.raises(Unsupported, match=says) as caught:
            roots.require(root)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", [None, "{", "[]", '{"format": 0}'])
def test_without_a_finished_set_up_it_says_what_to_type(text: str | None, qemu: dict[str, str], tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "ready.json").write_text(text)
    assert why_not(Root(tmp_path)) == "no ARM programs yet; run: lightseg-bench --device arm64 --setup"


def test_without_an_emulator(monkeypatch: pytest.MonkeyPatch, root: Root, capsys: Capture) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert "apt-get install qemu-user" in str(why_not(root))
    with pytest.raises(Unsupported, match="install with: apt-get install apt dpkg gcc qemu-user"):
        build(root, print)
    assert cli.main(["--device", "arm64", "a.tflite"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_the_guest_runs_with_the_plugin_and_reads_this_package(root: Root) -> None:
    command = root.command(["-m", "x"], Path("/tmp/counts"))
    assert command[:5] == ["qemu-aarch64", "-cpu", "cortex-a76", "-L", str(root.system)]
    assert f"{root.plugin},out=/tmp/counts" in command
    (path,) = (part for part in command if part.startswith("PYTHONPATH="))
    first, source = path.removeprefix("PYTHONPATH=").split(":")
    assert first == f"{root.system}/site"  # the guest's packages hide the host's
    assert (Path(source) / "lightseg" / "__init__.py").is_file()
    assert command[-3:] == [str(root.system / "usr/bin/python3.11"), "-m", "x"]


def test_what_is_downloaded_is_said_with_its_size(tmp_path: Path) -> None:
    debs = parse_uris(URIS)
    assert debs == {"libc6_2.36-9_arm64.deb": 2500000, "python3.11-minimal_3.11.2-6_arm64.deb": 1800000}
    said = plan(tmp_path, "3.11", debs)
    assert "2 Debian packages (4 MB)" in said and "onnxruntime" in said and str(tmp_path) in said
    for folder, names in {
        "archives": debs,
        "wheels": [f"{n.replace('-', '_')}-1.whl" for n in setting_up.RUNTIMES],
    }.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).touch()
    assert plan(tmp_path, "3.11", debs).startswith("everything is downloaded")


def test_wheels_are_those_of_the_versions_installed_here(tmp_path: Path) -> None:
    import numpy

    command = wheel_command("numpy", "3.11", tmp_path)
    assert command[-1] == f"numpy=={numpy.__version__}"
    assert "manylinux2014_aarch64" in command and "--only-binary=:all:" in command
    assert wheel_command("no-such-package", "3.11", tmp_path)[-1] == "no-such-package"


Answer = Callable[[list[str]], tuple[int, str]]


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, qemu: dict[str, str]) -> dict[str, Any]:
    """apt-get, pip, dpkg-deb, cc and the guest, played by functions; ``ran`` keeps the commands."""
    state: dict[str, Any] = {"ran": [], "apt": (0, URIS), "fails": ""}

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        state["ran"].append(command)
        program = "pip" if "pip" in command else Path(command[0]).name
        if program == state["fails"]:
            return subprocess.CompletedProcess(command, 1, "", "E: first\nE: Unable to fetch some archives\n")
        if program == "apt-get":
            code, said = state["apt"]
            return subprocess.CompletedProcess(command, code, said, "")
        if program == "dpkg-deb":
            Path(command[-1]).mkdir(exist_ok=True)
        return subprocess.CompletedProcess(command, 0, '{"numpy": "2"}\n', "")

    monkeypatch.setattr(subprocess, "run", run)
    return state


def test_a_set_up_ends_with_a_guest_that_answers(programs: dict[str, Any], tmp_path: Path) -> None:
    root, said = Root(tmp_path), list[str]()
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "libc6_2.36-9_arm64.deb").touch()
    build(root, said.append)
    assert root.facts["packages"] == {"numpy": "2"}
    assert root.facts["python"] == setting_up.PYTHONS[0]
    assert "CPU part\t: 0xd0b" in (root.system / "proc" / "cpuinfo").read_text()
    assert said[-1] == "ready: numpy 2"
    assert any("MB" in line for line in said)
    assert "cc" in [Path(command[0]).name for command in programs["ran"]]


@pytest.mark.parametrize("program", ["pip", "dpkg-deb", "cc", "qemu-aarch64"])
def test_a_step_that_fails_leaves_it_unready(program: str, programs: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "libc6_2.36-9_arm64.deb").touch()
    build(Root(tmp_path), lambda line: None)
    programs["fails"] = program
    with pytest.raises(SetupFailed, match=rf"{program} failed: E: Unable to fetch.*run it again") as caught:
        build(Root(tmp_path), lambda line: None)
    assert len(str(caught.value).splitlines()) == 1
    downloading = program == "pip"  # then nothing was touched, and what was ready stays so
    assert bool(Root(tmp_path).facts) == downloading


def test_sources_without_arm_packages(programs: dict[str, Any], tmp_path: Path) -> None:
    programs["apt"] = (100, "")
    with pytest.raises(Unsupported, match="no Python for arm64"):
        find_debs(tmp_path)
    asked = [command[-4] for command in programs["ran"][1:]]
    assert asked == [f"python{version}-minimal" for version in setting_up.PYTHONS]


def test_a_damaged_wheel(programs: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "numpy-2.whl").write_text("half of it")
    with pytest.raises(SetupFailed, match="damaged; delete it"):
        build(Root(tmp_path), lambda line: None)


def region(total: int, fma: int = 0) -> str:
    return f"total={total} fma={fma} vector=0 memory=5 branch=1 other=2"


def test_counts_are_read_without_the_empty_region(tmp_path: Path) -> None:
    (tmp_path / "counts").write_text("\n".join([region(50), region(1050, 400), region(1040, 399)]) + "\n")
    read = read_counts(tmp_path / "counts", 2)
    assert read.samples == (1000, 990)
    assert read.mix == {"fma": 399, "vector": 0, "memory": 5, "branch": 1, "other": 2}


@pytest.mark.parametrize("text", [None, "", "total=x", region(5), "\n".join([region(5)] * 4)])
def test_counts_that_are_not_what_was_asked(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "counts").write_text(text)
    with pytest.raises(Failed, match="set it up again"):
        read_counts(tmp_path / "counts", 2)


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch, root: Root) -> Root:
    """The guest's program run on this processor, and a plugin that counted something."""

    def command(self: Root, program: list[str], counts: Path | None = None) -> list[str]:
        assert program == ["-m", COUNTED_MODULE, "syscall"] and counts is not None
        counts.write_text("\n".join([region(10), *[region(1_000_010 + n) for n in range(4)]]))
        return [sys.executable, *program]

    monkeypatch.setattr(Root, "command", command)
    return root


@pytest.mark.parametrize("target", ["onnx", "tflite"])
def test_an_artifact_is_compared_with_its_golden_outputs(target: str, native: Root, small: dict[str, Path]) -> None:
    row = emulate(native, small[target])
    assert row.instructions.count == 1_000_000
    assert [one["probe"] for one in row.parity] == ["photo", "scene"]
    assert row.relative_error is not None and row.relative_error < 1e-4
    assert (row.changed, row.pixels, row.disagrees) == (0, 2 * 32 * 64, None)
    assert json.loads(json.dumps(row.to_dict()))["device"] == "arm64 (emulated)"


def test_a_wrong_answer_is_no_success(native: Root, small: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from lightseg.benchmarks.counting.instructions import CountedRunner

    fetch = CountedRunner.fetch
    monkeypatch.setattr(CountedRunner, "fetch", lambda self: fetch(self) * 1.01)
    row = emulate(native, small["tflite"])
    assert row.disagrees is not None and "does not repeat its golden output" in row.disagrees
    with pytest.raises(ParityError, match="on the emulated ARM processor"):
        count_emulated(native)(small["tflite"], None)  # type: ignore[arg-type]


ROW = Emulated(
    "a.tflite",
    Instructions((45_600_000, 45_700_000), "qemu-user 7.2, cortex-a76", {"fma": 20_000_000, "memory": 1_000_000}),
    64_000_000,
    ({"probe": "photo", "max_error": 1e-5, "relative_error": 3e-6, "flips": 1, "pixels": 50176},),
    None,
    {"runtime": "ai-edge-litert", "version": "2.3.0"},
)


def shown(rows: list[Emulated]) -> str:
    out = StringIO()
    console = Console(file=out, width=200)
    console.print(emulated_table(rows))
    for line in notes(rows):
        console.print(line)
    return out.getvalue()


def test_no_time_is_ever_printed() -> None:
    foreign = replace(ROW, name="peer.tflite", parity=())
    text = shown([ROW, replace(ROW, disagrees="it is off"), foreign])
    for expected in ("45.6", "3.0e-06", "1 of 50,176", "not compared", "it is off", "no milliseconds"):
        assert expected in text
    assert " ms" not in text and "second" not in text.replace("milliseconds", "")
    assert not [key for key in ROW.to_dict() if "ms" in key or "time" in key.replace("runtime", "")]


def test_one_that_dies_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, root: Root, capsys: Capture, tmp_path: Path
) -> None:
    def one(root: Root, path: Path) -> Emulated:
        if path.name == "b.onnx":
            raise Failed("the measured process was killed by SIGSEGV")
        return replace(ROW, disagrees="off" if path.name == "c.onnx" else None)

    monkeypatch.setattr(emulate_all, "__defaults__", (one,))
    monkeypatch.setattr(counting_mode, "ready_root", lambda: root)
    result = tmp_path / "r.json"
    assert cli.main(["--device", "arm64", "a.onnx", "b.onnx", "c.onnx", "--json", str(result)]) == 1
    out, error = capsys.readouterr()
    assert out.count("a.tflite") >= 2
    assert error.splitlines()[-2:] == [
        "lightseg-bench: b.onnx failed: the measured process was killed by SIGSEGV",
        "lightseg-bench: a.tflite does not equal PyTorch on this processor",
    ]
    assert len(json.loads(result.read_text())["rows"]) == 2
    assert cli.main(["--device", "arm64", "a.onnx"]) == 0


def test_setup_reports_its_failure_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def fails(root: Root, announce: Any) -> None:
        raise SetupFailed("pip failed: no space; run it again to go on from here")

    monkeypatch.setattr(setting_up, "build", fails)
    assert cli.main(["--device", "arm64", "--setup"]) == 1
    assert capsys.readouterr().err == "lightseg-bench: pip failed: no space; run it again to go on from here\n"
    assert issubclass(SetupFailed, LightsegError)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "tflite"])
def test_arm_kernels_equal_pytorch_and_repeat_their_count(target: str, small: dict[str, Path]) -> None:
    if reason := why_not(default_root()):
        pytest.skip(reason)
    first, second = (emulate(default_root(), small[target]) for _ in range(2))
    assert first.disagrees is None and first.changed == 0
    assert first.instructions.count == pytest.approx(second.instructions.count, rel=5e-3)
    assert first.macs is not None
    assert first.macs / 16 < first.instructions.count < first.macs * 16
    assert first.instructions.mix is not None and first.instructions.mix["fma"] * 4 > first.macs * 0.8
