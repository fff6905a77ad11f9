"""Devices that are none: a folder behind a stand-in adb, a stand-in ssh, and a real sshd on this machine's loopback."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from lightseg.benchmarks.timing.latency import QUICK

HERE = Path(__file__).parent
ECONOMY = ["--samples", "8", "--seconds", "0", "--processes", "1", "--quick", "--limit", "1"]
"""Options of a run that is over soon."""


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a busy machine to settle."""
    quick = replace(QUICK, warmup_seconds=0.05, window_seconds=0.005)
    monkeypatch.setattr("lightseg.benchmarks.timing.mode.QUICK", quick)


@dataclass(frozen=True)
class Phone:
    home: Path

    def is_(self, state: str) -> None:
        (self.home / "state").write_text(state)

    @property
    def left(self) -> list[str]:
        """What stayed on it."""
        return [path.name for path in (self.home / "phone").iterdir()]

    def install(self, name: str, text: str) -> Path:
        return program(self.home / "bin" / name, text)


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Phone:
    """Behind the program adb, which is found first."""
    home = tmp_path / "stand-in"
    (home / "phone").mkdir(parents=True)
    phone = Phone(home)
    phone.is_("device")
    program(tmp_path / "path/adb", f'#!/bin/sh\nexec {sys.executable} -S {HERE / "stand_in_adb.py"} "$@"\n')
    phone.install("getprop", '#!/bin/sh\ncase $1 in ro.product.model) echo "Pixel 0";; ro.soc.model) echo GS0;; esac\n')
    phone.install(
        "dumpsys",
        '#!/bin/sh\n[ $1 = thermalservice ] && echo "Thermal Status: ${HEAT:-0}" || '
        'printf "  level: 80\\n  temperature: 314\\n  USB powered: true\\n"\n',
    )
    phone.install("python3", "#!/bin/sh\necho 'python3: inaccessible or not found' >&2\nexit 127\n")
    monkeypatch.setenv("STAND_IN", str(home))
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:{os.environ['PATH']}")
    return phone


@dataclass(frozen=True)
class Sshd:
    """A server of this user's, with a key of its own."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def device(self) -> str:
        return f"ssh:{getpass.getuser()}@127.0.0.1:{self.port}"

    @property
    def options(self) -> list[str]:
        return ["--device", self.device, "--ssh-config", str(self.folder / "config"), "--remote-python", sys.executable]


SERVER = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
"""
CLIENT = """\
Host *
  IdentityFile {folder}/user
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known
  GlobalKnownHostsFile /dev/null
"""


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """Skips where OpenSSH's server is not installed or does not start."""
    server = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if server is None or shutil.which("ssh") is None:
        pytest.skip("no sshd on this machine; install openssh-server to test against a real one")
    folder = tmp_path_factory.mktemp("sshd")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "authorized").write_text((folder / "user.pub").read_text())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    key = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known").write_text(f"[127.0.0.1]:{port} {key}\n")
    (folder / "config").write_text(CLIENT.format(folder=folder))
    (folder / "server").write_text(SERVER.format(folder=folder, port=port))
    separation = Path("/run/sshd")  # where the administrator's sshd shuts its unprivileged half in
    ours = os.geteuid() == 0 and not separation.exists()
    if ours:
        separation.mkdir(mode=0o755)
    log = (folder / "log").open("wb")
    process = subprocess.Popen([server, "-D", "-e", "-f", str(folder / "server")], stderr=log)
    try:
        wait_for(port, process, folder / "log")
        yield Sshd(folder, port, process)
    finally:
        process.terminate()
        process.wait()
        log.close()
        if ours:
            separation.rmdir()


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    pytest.skip(f"sshd does not start here: {log.read_text().strip().splitlines()[-1:]}")
