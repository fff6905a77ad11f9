"""ssh to any Linux, by the user's own ``ssh`` command, so that keys, hosts and jumps are those of its configuration."""

from __future__ import annotations

import io
import re
import shlex
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lightseg.benchmarks.remote.link import attempt, check, last_line
from lightseg.errors import BadInput

OPTIONS = ("BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=10", "ServerAliveCountMax=3")
"""Nobody is there to type a password; a device that goes silent is noticed within half a minute."""
FAILED = 255
"""ssh's own exit status; others are the command's."""
ADDRESS = re.compile(r"ssh:(?:(?P<user>[^@\s]+)@)?(?P<host>\[[0-9a-fA-F:.%\w]+\]|[\w.-]+)(?::(?P<port>\d+))?")


@dataclass(frozen=True)
class Ssh:
    name: str
    host: str
    """With the user in front where one was given."""
    port: int | None = None
    configuration: Path | None = None
    temporary: str = "${TMPDIR:-/tmp}"

    def command(self, script: str) -> list[str]:
        port = [] if self.port is None else ["-p", str(self.port)]
        configuration = [] if self.configuration is None else ["-F", str(self.configuration)]
        options = [part for option in OPTIONS for part in ("-o", option)]
        # The remote login shell may be any; what it is given is one word for a POSIX shell.
        return ["ssh", "-T", *configuration, *options, *port, "--", self.host, f"sh -c {shlex.quote(script)}"]

    def broken(self, code: int, said: str) -> str | None:
        return explain(self.name, self.port, said) if code == FAILED else None

    def put(self, files: Mapping[str, bytes], folder: str) -> None:
        """By tar, which every Linux has; scp needs a server part that small systems leave out."""
        code, _, said = attempt(self.command(f"tar -xf - -C {shlex.quote(folder)}"), _tar(files), seconds=600.0)
        check(self, code, said)


def _tar(files: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o600
            archive.addfile(entry, io.BytesIO(data))
    return content.getvalue()


def parse(text: str, configuration: Path | None = None) -> Ssh:
    """From ``ssh:[USER@]HOST[:PORT]``. Errors: `BadInput`."""
    found = ADDRESS.fullmatch(text)
    if found is None or found["host"].startswith("-"):
        raise BadInput(f"--device {text} is not ssh:USER@HOST or ssh:USER@HOST:PORT, for instance ssh:pi@raspberry:22")
    host = found["host"].strip("[]")
    user = f"{found['user']}@" if found["user"] else ""
    return Ssh(text, user + host, int(found["port"]) if found["port"] else None, configuration)


def explain(name: str, port: int | None, said: str) -> str:
    """ssh's last word, and what to do about it."""
    host = name.removeprefix("ssh:")
    for pattern, line in MEANINGS:
        if re.search(pattern, said, re.IGNORECASE):
            return f"{name} {line.format(host=host, login=login(host), last=last_line(said))}"
    return (
        f"{name} was lost" + (f" ({last_line(said)})" if last_line(said) else "") + "; see that it is on and reachable"
    )


def login(host: str) -> str:
    """What to type to go there."""
    machine, colon, port = host.rpartition(":")
    return f"ssh -p {port} {machine}" if colon and port.isdigit() else f"ssh {host}"


MEANINGS = (
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "shows another host key than the one known for it: somebody may be in "
     "between; if the device was set up anew, type: ssh-keygen -R {host}"),
    ("Host key verification failed", "is not a known host; type once: {login}"),
    ("Permission denied|Too many authentication failures", "does not let us in ({last}); type: ssh-copy-id {host}"),
    ("Could not resolve hostname", "is not known by that name ({last}); check the name or give the address"),
    ("Connection refused", "refuses the connection; see that sshd runs there, and on this port"),
    ("timed out|No route to host|unreachable", "does not answer ({last}); see that it is on and in this network"),
    ("Bad configuration option|Can't open user config", "cannot be called ({last}); mend the ssh configuration"),
)  # fmt: skip
"""What ssh says, and what it means; the first that fits."""
