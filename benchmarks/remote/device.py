"""A device for the length of a run: a folder there with the runner, artifacts and photographs, gone at the end."""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from lightseg.benchmarks.remote import bundle
from lightseg.benchmarks.remote.link import Link, Unreachable, attempt, last_line, run
from lightseg.benchmarks.timing.environment import THREAD_VARIABLES, commit
from lightseg.benchmarks.timing.inputs import how_many
from lightseg.benchmarks.timing.latency import Protocol
from lightseg.benchmarks.timing.measure import Row, measure
from lightseg.benchmarks.timing.opening import pack_photographs
from lightseg.benchmarks.timing.process import Child, Failed
from lightseg.benchmarks.timing.subject import Subject
from lightseg.errors import BadInput, Unsupported
from lightseg.files import files_in

NO_PROGRAM = (126, 127)
"""A shell's exit status where a program is not there, or cannot be run."""
FOLDER = "lightseg-remote-XXXXXX"


class Device:
    """A context manager. Errors on entering: `Unreachable`, `Failed`, `Unsupported`, each in one line."""

    def __init__(
        self, link: Link, python: str = "python3", parent: str | None = None, python_optional: bool = False
    ) -> None:
        self.link, self.python, self.python_optional = link, python, python_optional
        self._template = f'"{link.temporary}/{FOLDER}"' if parent is None else shlex.quote(f"{parent}/{FOLDER}")
        self.folder = ""
        self.facts: dict[str, Any] = {}
        """What the runner says of the Python there; empty where there is none, and none is needed."""
        self._placed: set[str] = set()

    def __enter__(self) -> Device:
        self.folder = run(self.link, f"umask 077; mktemp -d {self._template}").strip()
        try:
            self.link.put({bundle.NAME: bundle.bundle()}, self.folder)
            self.facts = self._probe()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._remove()

    def _remove(self) -> None:
        """Best effort: where the device is gone, so is the way to its folder."""
        with contextlib.suppress(Failed):
            run(self.link, f"rm -rf -- {shlex.quote(self.folder)}")

    def _probe(self) -> dict[str, Any]:
        from lightseg.export.targets import TARGETS

        names = sorted({"numpy"} | {module for target in TARGETS.values() for module in target.load_needs})
        command = self.link.command(f"{self._runner()} probe {' '.join(names)}; exit $?")
        code, out, said = attempt(command)
        line = None if code == 0 else self.link.broken(code, said)
        if line is not None:
            raise Unreachable(line)
        if code in NO_PROGRAM and self.python_optional:
            return {}
        if code in NO_PROGRAM:
            raise Unsupported(
                f"{self.link.name} has no {self.python}; install Python {_dotted(bundle.OLDEST)} or newer "
                "and NumPy there, or name another with --remote-python"
            )
        return self._understood(out, said)

    def _understood(self, out: str, said: str) -> dict[str, Any]:
        try:
            facts: dict[str, Any] = json.loads(out)
            version = tuple(map(int, facts["python"].split(".")))[:2]
            runner, has = facts["runner"], facts["has"]
        except (ValueError, KeyError, TypeError):
            raise Failed(
                f"the runner on {self.link.name} does not start: {last_line(said) or last_line(out)}"
            ) from None
        if runner != bundle.identity():
            raise Failed(
                f"the runner on {self.link.name} is version {runner}, this is {bundle.identity()}: the copy did not "
                "arrive; try again, or name another folder with --remote-dir"
            )
        if version < bundle.OLDEST:
            raise Unsupported(
                f"{self.python} on {self.link.name} is {facts['python']}, and {_dotted(bundle.OLDEST)} or newer is "
                "needed; name another with --remote-python"
            )
        self._require("numpy", has)
        return facts

    def _require(self, module: str, has: Sequence[str]) -> None:
        if module not in has:
            package = module.replace("_", "-")
            raise Unsupported(
                f"{self.python} on {self.link.name} has no {module}; install it there with: "
                f"{self.python} -m pip install {package}"
            )

    def _runner(self) -> str:
        return f"{self.python} {shlex.quote(f'{self.folder}/{bundle.NAME}')}"

    def child(self, threads: int) -> RemoteChild:
        """A measured process there, spoken to through the link."""
        settings = " ".join(f"{name}={threads}" for name in THREAD_VARIABLES)
        script = f"env {settings} PYTHONHASHSEED=0 {self._runner()}; exit $?"
        return RemoteChild(self.link, threads, self.link.command(script))

    def describe(self, threads: int, cores: Sequence[int] | None) -> tuple[list[int], dict[str, Any]]:
        """The cores to use and what the device is. Errors: `BadInput` where it has not as many cores, or not those."""
        with self.child(threads) as child:
            told = child.ask("describe", threads=threads, cores=list(cores or ()))
        chosen, available = list(told["cores"]), told["available"]
        if len(chosen) != threads or not set(chosen) <= set(available):
            has = ",".join(map(str, available))
            raise BadInput(
                f"{self.link.name} has the cores {has}: as many --threads at most, one of these for each in --cores"
            )
        facts = {**told["environment"], "device": self.link.name, "commit": commit()}
        return chosen, facts

    def measure(self, subject: Subject, protocol: Protocol, cores: Sequence[int], images: str | None) -> Row:
        """`lightseg.benchmarks.timing.measure.measure`, there. Errors: `Failed`."""
        placed = self.place(subject, protocol, images)
        row = measure(placed, protocol, cores, self.folder, self.child)
        return replace(row, subject=subject)

    def place(self, subject: Subject, protocol: Protocol, images: str | None) -> Subject:
        """Carry the file, its record and the photographs there; the subject with its path there."""
        from lightseg.export.targets import target_of

        if subject.path is None:
            raise Unsupported(f"{subject.name}: only files are measured on a device; export one with --to")
        path = Path(subject.path)
        try:
            for module in target_of(path).load_needs:
                self._require(module, self.facts["has"])
        except Unsupported as error:
            raise Failed(str(error)) from error
        self._put(_artifact(path, subject.proof))
        self._put(_photographs(subject, protocol, images, self._placed))
        return replace(subject, path=f"{self.folder}/{path.name}")

    def _put(self, files: dict[str, bytes]) -> None:
        new = {name: data for name, data in files.items() if name not in self._placed}
        if new:
            self.link.put(new, self.folder)
            self._placed |= new.keys()


class RemoteChild(Child):
    """A measured process on a device: its end may be the link's."""

    def __init__(self, link: Link, threads: int, command: Sequence[str]) -> None:
        super().__init__(threads, command)
        self.link, self.command = link, command

    def _death(self) -> Failed:
        code = self.process.wait(timeout=60)
        said = self.said()
        line = self.link.broken(code, said)
        if line is not None:
            return Unreachable(line)
        last = last_line(said)
        if code < 0:
            return Failed(f"{self.command[0]} was killed here by {signal.Signals(-code).name}")
        if code > 128 and code - 128 in set(signal.Signals):
            how = f"was killed there by {signal.Signals(code - 128).name}"
        else:
            how = f"ended there with exit code {code}"
        return Failed(f"the measured process {how}" + (f": {last}" if last else ""))


def _artifact(path: Path, proof: bool) -> dict[str, bytes]:
    """The file, or all files of a folder, and the record beside it, wherever it was here."""
    files = {
        path.name if file == path else f"{path.name}/{file.relative_to(path).as_posix()}": file.read_bytes()
        for file in files_in(path)
    }
    if proof:
        from lightseg.export.artifact import sidecar_text
        from lightseg.export.record import read_artifact

        files[f"{path.name}.json"] = sidecar_text(read_artifact(path)).encode()
    return files


def _photographs(subject: Subject, protocol: Protocol, images: str | None, placed: set[str]) -> dict[str, bytes]:
    """The same photographs this machine would use, at the network's size and at their own."""
    _, _, height, width = subject.shape
    files: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory(prefix="lightseg-bench-") as folder:
        for size in ((height, width), None):
            path = pack_photographs(images, how_many(subject.shape, protocol.inputs), size, Path(folder), placed)
            if path is not None:
                files[path.name] = path.read_bytes()
    return files


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
