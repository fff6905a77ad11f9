"""Every reason the emulated ARM processor cannot be had, and how something is run in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightseg.benchmarks import cli
from lightseg.benchmarks.arm64 import root as roots
from lightseg.benchmarks.arm64.build import build
from lightseg.benchmarks.arm64.root import Root, why_not
from lightseg.errors import Unsupported

Capture = pytest.CaptureFixture[str]


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
    assert (
        why_not(Root(tmp_path))
        == "no ARM programs yet, or those of an earlier release; run: lightseg-bench --device arm64 --setup"
    )


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
