"""A device by ssh: against a real sshd on the loopback, and against a stand-in of the program ssh."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from lightseg.benchmarks import cli
from lightseg.benchmarks.remote import bundle, device
from lightseg.benchmarks.remote.link import refusal
from lightseg.benchmarks.remote.ssh import explain, parse
from lightseg.errors import BadInput
from tests.benchmarks.remote.conftest import ECONOMY, Sshd, program

Capture = pytest.CaptureFixture[str]


def said(capsys: Capture) -> str:
    """The only line of the command's own."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lightseg-bench: ")]
    assert len(lines) == 1, lines
    return lines[0].removeprefix("lightseg-bench: ")


STAND_IN = """\
#!/bin/sh
# What ssh does, without a network: the last word is for a shell. $DOES is put in front of every command.
for last; do :; done
eval "$DOES"
exec sh -c "$last"
"""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> device.Device:
    """Not used as a context: only so that every test of the stand-in has it on its path."""
    program(tmp_path / "path/ssh", STAND_IN)
    (tmp_path / "there").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "there"))
    monkeypatch.setenv("DOES", "")
    return device.Device(parse("ssh:pi@raspberry"))


def call(*argv: str | Path) -> int:
    return cli.main([*map(str, argv), "--device", "ssh:pi@raspberry", "--remote-python", sys.executable, *ECONOMY])


def slow(*case: str) -> Any:
    return pytest.param(*case, marks=pytest.mark.slow)


def probed(python: str, *has: str) -> str:
    """A device whose runner says this of itself; IDENTITY stands for that of our own."""
    told = json.dumps({"runner": "IDENTITY", "python": python, "has": has})
    return f"case $last in *probe*) echo '{told}'; exit;; esac"


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("echo 'ssh: Could not resolve hostname raspberry: Name or service not known' >&2; exit 255",
         "ssh:pi@raspberry is not known by that name"),
        ("echo 'ssh: connect to host raspberry port 22: Connection refused' >&2; exit 255",
         "ssh:pi@raspberry refuses the connection; see that sshd runs there"),
        ("echo 'ssh: connect to host raspberry port 22: Connection timed out' >&2; exit 255",
         "ssh:pi@raspberry does not answer"),
        ("echo 'pi@raspberry: Permission denied (publickey).' >&2; exit 255",
         "ssh:pi@raspberry does not let us in (pi@raspberry: Permission denied (publickey).); type: ssh-copy-id"),
        ("echo 'Host key verification failed.' >&2; exit 255",
         "ssh:pi@raspberry is not a known host; type once: ssh pi@raspberry"),
        ("case $last in *mktemp*) echo 'mktemp: No space left on device' >&2; exit 1;; esac",
         "ssh:pi@raspberry is full (mktemp: No"),
        ("case $last in *tar*) echo 'tar: x: No space left on device\ntar: Exiting' >&2; exit 2;; esac",
         "ssh:pi@raspberry is full (tar: x: No space left on device); free some space there, or name"),
        ("case $last in *mktemp*) echo 'mktemp: /tmp: Read-only file system' >&2; exit 1;; esac",
         "ssh:pi@raspberry does not let us write"),
        ("case $last in *probe*) echo 'sh: 1: python3: not found' >&2; exit 127;; esac",
         "ssh:pi@raspberry has no "),
        ("case $last in *probe*) echo 'Illegal instruction' >&2; exit 132;; esac",
         "the runner on ssh:pi@raspberry does not start: Illegal instruction"),
        (probed("3.11.2").replace("IDENTITY", "000000000000"),
         "the runner on ssh:pi@raspberry is version 000000000000, this is "),
        (probed("3.8.10"), f"{sys.executable} on ssh:pi@raspberry is 3.8.10, and 3.10 or newer is needed; name"),
        (probed("3.11.2"), f"{sys.executable} on ssh:pi@raspberry has no numpy; install it there with: "),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_one_line_and_nothing_stays(
    bench: object, small: dict[str, Path], does: str, says: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: Capture,
) -> None:  # fmt: skip
    monkeypatch.setenv("DOES", does.replace("IDENTITY", bundle.identity()))
    assert call(small["tflite"]) == 1
    assert said(capsys).startswith(says)
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.slow
def test_without_the_runtime_a_row_says_what_to_install(
    bench: object, small: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """The others go on."""
    does = probed("3.11.2", "numpy", "onnxruntime").replace("IDENTITY", bundle.identity())
    monkeypatch.setenv("DOES", does)
    assert call(small["tflite"], small["onnx"]) == 1
    out, error = capsys.readouterr()
    assert "onnx " in out
    assert error.splitlines()[-1] == (
        f"lightseg-bench: extremec3net-random, tflite failed: {sys.executable} on ssh:pi@raspberry has no "
        f"ai_edge_litert; install it there with: {sys.executable} -m pip install ai-edge-litert"
    )


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("exit 255", "ssh:pi@raspberry was lost; see that it is on and reachable; 1 more not measured"),
        (
            "echo 'Timeout, server raspberry not responding.' >&2; exit 255",
            "ssh:pi@raspberry was lost (Timeout, server",
        ),
        ("kill -9 $$", "ssh was killed here by SIGKILL"),
        ("exit 137", "the measured process was killed there by SIGKILL"),
        ("echo 'MemoryError' >&2; exit 1", "the measured process ended there with exit code 1: MemoryError"),
    ],
)
def test_a_device_lost_on_the_way_keeps_what_is_finished(
    bench: object, small: dict[str, Path], does: str, says: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: Capture,
) -> None:  # fmt: skip
    """The first row takes two processes and the description one; at the fourth the device goes."""
    starts = tmp_path / "starts"
    counted = f"case $last in *.pyz*exit*) echo . >> {starts}; [ $(wc -l < {starts}) -ge 5 ] && {{ {does}; }};; esac"
    monkeypatch.setenv("DOES", counted)
    file = tmp_path / "r.json"
    assert call(small["onnx"], small["tflite"], small["tflite"], "--json", file) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lightseg-bench: ")]
    assert lines[0].startswith(f"lightseg-bench: extremec3net-random, tflite failed: {says}")
    assert len(lines) == 1
    data = json.loads(file.read_text())
    assert [row["subject"]["runtime"] for row in data["rows"]] == ["onnx"]
    assert list(data["failed"]) == ["extremec3net-random, tflite"]


@pytest.mark.slow
def test_a_wrong_answer_there_is_invalid(
    bench: object, small: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """The record that travels allows no error at all."""
    from lightseg.export.artifact import Artifact

    record = json.loads(Path(f"{small['onnx']}.json").read_text())
    for golden in record["golden"]:
        golden["largest"] = golden["mean"] = 0.0
    changed = Artifact.from_dict(small["onnx"], record)
    monkeypatch.setattr("lightseg.export.artifact.read_artifact", lambda path: changed)
    assert call(small["onnx"]) == 1
    line = said(capsys)
    assert "extremec3net-random, onnx is INVALID: " in line and "does not repeat its golden output" in line


@pytest.mark.parametrize("name", ["onnx", slow("tflite")])
def test_a_row_over_a_real_sshd_is_as_one_measured_here(
    sshd: Sshd, small: dict[str, Path], name: str, tmp_path: Path
) -> None:
    file = tmp_path / "r.json"
    there = tmp_path / "with a space"
    there.mkdir()
    argv = [str(small[name]), *sshd.options, *ECONOMY, "--json", str(file), "--remote-dir", str(there)]
    assert cli.main(argv) == 0
    data = json.loads(file.read_text())
    (row,) = data["rows"]
    (process,) = row["processes"]
    assert (process["goldens"]["wrong"], len(process["goldens"]["checked"])) == ("", 2)
    assert len(process["sampled"]["samples_ns"]) == 8 and process["sampled"]["audit"]["worst"] == 0.0
    assert row["summary"]["image_to_mask"]["count"] >= 6
    assert row["memory"]["peak_memory_bytes"] > 0
    assert row["subject"]["path"] == str(small[name].resolve())
    assert data["environment"]["device"] == sshd.device
    assert list(there.iterdir()) == []


def test_a_real_sshd_refuses_a_stranger(sshd: Sshd, small: dict[str, Path], tmp_path: Path, capsys: Capture) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    text = (sshd.folder / "config").read_text()
    config = tmp_path / "config"
    argv = [str(small["onnx"]), *sshd.options, *ECONOMY, "--ssh-config", str(config)]
    config.write_text(text.replace(f"{sshd.folder}/user", f"{tmp_path}/other"))
    assert cli.main(argv) == 1
    assert "does not let us in" in said(capsys)
    known = (sshd.folder / "known").read_text().split()
    stranger = (tmp_path / "other.pub").read_text().split()
    (tmp_path / "known").write_text(" ".join([known[0], *stranger[:2]]) + "\n")
    config.write_text(text.replace(f"{sshd.folder}/known", f"{tmp_path}/known"))
    assert cli.main(argv) == 1
    assert "shows another host key than the one known for it" in said(capsys)
    config.write_text(text.replace(f"{sshd.folder}/known", "/dev/null"))
    assert cli.main(argv) == 1
    assert "is not a known host; type once: ssh -p" in said(capsys)


def test_the_runner_is_small_and_needs_nothing_of_ours(tmp_path: Path) -> None:
    content = bundle.bundle()
    assert len(content) < 200_000
    assert content == bundle.bundle()
    path = tmp_path / bundle.NAME
    path.write_bytes(content)
    with zipfile.ZipFile(BytesIO(content)) as archive:
        names = archive.namelist()
    assert not [name for name in names if "/train" in name or "zoo" in name or "writers/onnx.py" in name]
    probe = [sys.executable, "-I", str(path), "probe", "json", "no_such_module"]
    told = json.loads(subprocess.run(probe, capture_output=True, check=True).stdout)
    assert (told["runner"], told["has"]) == (bundle.identity(), ["json"])


WITHOUT = """
import runpy, sys
for name in ("PIL", "torch", "onnx", "flatbuffers", "rich", "safetensors"):
    sys.modules[name] = None
sys.argv = [sys.argv[1]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("name", ["onnx", slow("tflite")])
def test_the_runner_needs_numpy_and_the_runtime_alone(small: dict[str, Path], name: str, tmp_path: Path) -> None:
    """Every request, in a process that has neither Pillow nor anything else, and the packed photographs."""
    from dataclasses import asdict

    from lightseg.benchmarks.selection import artifact_subjects
    from lightseg.benchmarks.timing.latency import Protocol
    from lightseg.benchmarks.timing.opening import pack_photographs
    from lightseg.benchmarks.timing.process import Child

    path = tmp_path / bundle.NAME
    path.write_bytes(bundle.bundle())
    pack_photographs(None, 4, (32, 64), tmp_path)
    pack_photographs(None, 4, None, tmp_path)
    subject = artifact_subjects([small[name]])[1]
    protocol = Protocol(samples=6, seconds=0, warmup_seconds=0.01, inputs=4).to_dict()
    with Child(1, (sys.executable, "-c", WITHOUT, str(path))) as child:
        common = {"subject": asdict(subject), "cores": [min(os.sched_getaffinity(0))], "threads": 1}
        opened = child.ask("open", **common, protocol=protocol, images=str(tmp_path))
        assert opened["inputs"] == 4
        assert child.ask("goldens")["wrong"] == ""
        child.ask("warm_up")
        assert child.ask("sample", samples=6, seconds=0)["audit"]["worst"] == 0.0
        assert "pip install pillow" in child.ask("image_to_mask", seconds=0)["reason"]
        assert "not applicable" in child.ask("transfer", seconds=0)["reason"]
    with Child(1, (sys.executable, "-c", WITHOUT, str(path))) as child:
        assert child.ask("memory", **common, images=str(tmp_path))["peak_memory_bytes"] > 0


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("ssh:pi@raspberry", "pi@raspberry", None),
        ("ssh:raspberry", "raspberry", None),
        ("ssh:pi@10.0.0.7:2222", "pi@10.0.0.7", 2222),
        ("ssh:pi@[fe80::1%eth0]:22", "pi@fe80::1%eth0", 22),
    ],
)
def test_addresses(text: str, host: str, port: int | None) -> None:
    found = parse(text)
    assert (found.host, found.port) == (host, port)
    assert found.command("ls")[-2:] == [host, "sh -c ls"]


@pytest.mark.parametrize("text", ["ssh:", "ssh:a b", "ssh:-oProxyCommand=x", "ssh:pi@host:port", "ssh:pi@$(id)"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="is not ssh:USER@HOST"):
        parse(text)


def test_every_line_says_what_to_do() -> None:
    assert explain("ssh:a:22", None, "").endswith("see that it is on and reachable")
    assert "--remote-dir" in refusal("ssh:a", 1, "x: Disk quota exceeded")
    assert refusal("ssh:a", 3, "") == "ssh:a: the command ended with status 3"
