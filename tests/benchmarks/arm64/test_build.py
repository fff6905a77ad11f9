"""The set-up: what is downloaded, that it goes on where it stopped, and that a failed one is never used."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from lightseg.benchmarks import cli
from lightseg.benchmarks.arm64 import build as setting_up
from lightseg.benchmarks.arm64.build import SetupFailed, build, find_debs, parse_uris, plan, wheel_command
from lightseg.benchmarks.arm64.root import Root
from lightseg.errors import LightsegError, Unsupported

Capture = pytest.CaptureFixture[str]


URIS = """Reading package lists...
'http://mirror/pool/l/libc6_2.36-9_arm64.deb' libc6_2.36-9_arm64.deb 2500000 SHA256:00ff
'http://mirror/pool/p/python3.11-minimal_3.11.2-6_arm64.deb' python3.11-minimal_3.11.2-6_arm64.deb 1800000 MD5Sum:00
"""


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


def test_nothing_left_to_download_is_no_missing_python(programs: dict[str, Any], tmp_path: Path) -> None:
    programs["apt"] = (0, "Need to get 0 B/15.7 MB of archives.\n")
    assert find_debs(tmp_path) == (setting_up.PYTHONS[0], {})


def test_a_damaged_wheel(programs: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "numpy-2.whl").write_text("half of it")
    with pytest.raises(SetupFailed, match="damaged; delete it"):
        build(Root(tmp_path), lambda line: None)


def test_setup_reports_its_failure_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def fails(root: Root, announce: Any) -> None:
        raise SetupFailed("pip failed: no space; run it again to go on from here")

    monkeypatch.setattr(setting_up, "build", fails)
    assert cli.main(["--device", "arm64", "--setup"]) == 1
    assert capsys.readouterr().err == "lightseg-bench: pip failed: no space; run it again to go on from here\n"
    assert issubclass(SetupFailed, LightsegError)
