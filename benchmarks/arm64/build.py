"""Setting the emulated computer up: ARM packages through apt-get and pip, unpacked side by side, never installed.

What was downloaded stays, so that a set-up that was interrupted goes on where it stopped; ``ready.json`` is written
last, so that a half-made one is never used.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from lightseg.benchmarks.arm64.root import CPU, EMULATOR, FORMAT, NEEDS, Root, missing, why_not
from lightseg.errors import LightsegError, OutputError, Unsupported
from lightseg.files import atomic_path, remove

Announce = Callable[[str], None]

PYTHONS = ("3.13", "3.12", "3.11", "3.10")
"""Guest interpreters, the newest that apt offers for arm64 is taken."""
LIBRARIES = ("libstdc++6", "libgomp1")
RUNTIMES = ("numpy", "ai-edge-litert", "onnxruntime", "ncnn", "flatbuffers")
"""Wheels, in the versions installed here, so that both processors run the same release."""
PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64", "manylinux_2_34_aarch64")
WHEELS_MB = 60
DISK_MB = 350
"""Measured; the sizes of the Debian packages are asked of apt-get."""
FEATURES = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"


class SetupFailed(LightsegError):
    """A step of the set-up failed; running it again goes on from there."""


def build(root: Root, announce: Announce) -> None:
    """Make ``root`` ready, downloading what is not there yet; say what and how much before.

    Errors: `Unsupported` where a program is missing or apt-get has no ARM packages; `SetupFailed`; `OutputError`.
    """
    reason = missing(list(NEEDS))
    if reason:
        raise Unsupported(f"--device arm64: {reason}")
    try:
        for part in ("lists/partial", "archives/partial", "wheels"):
            (root.folder / part).mkdir(parents=True, exist_ok=True)
        (root.folder / "status").touch()
    except OSError as error:
        raise OutputError(f"cannot write to {root.folder} ({error.strerror}); set XDG_CACHE_HOME") from error
    announce("asking apt-get for its ARM packages")
    python, debs = find_debs(root.folder)
    announce(plan(root.folder, python, debs))
    fetch(root.folder, python)
    announce("unpacking")
    root.marker.unlink(missing_ok=True)
    unpack(root)
    write_processor(root.system)
    compile_plugin(root)
    finish(root, python)
    announce(f"ready: {', '.join(f'{name} {version}' for name, version in root.facts['packages'].items())}")


def find_debs(folder: Path) -> tuple[str, dict[str, int]]:
    """The guest's Python version, and name and size of Debian packages to be fetched. Errors: `Unsupported`."""
    _run(["apt-get", *apt_options(folder), "update", "-q"], check=False)  # a foreign source may fail; see what came
    for python in PYTHONS:
        done = _run(["apt-get", *apt_options(folder), "install", "--print-uris", "-y", "-q", *wanted(python)], False)
        if done.returncode == 0:
            return python, parse_uris(done.stdout)  # nothing, where all of it is in the archives already
    raise Unsupported(
        "--device arm64: apt-get's sources have no Python for arm64; "
        "this needs a Debian whose mirror carries that architecture (see /etc/apt/sources.list.d)"
    )


def wanted(python: str) -> list[str]:
    return [f"python{python}-minimal", f"libpython{python}-stdlib", *LIBRARIES]


def apt_options(folder: Path) -> list[str]:
    """apt-get with the system's sources and keys, but lists, archives and state of its own, and as if on ARM."""
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root" if os.getuid() == 0 else "",
        "Dir::State": folder,
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder,
        "Dir::Cache::archives": folder / "archives",
        "Debug::NoLocking": "true",
        "Acquire::Languages": "none",
    }
    return [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]


def parse_uris(text: str) -> dict[str, int]:
    """File name to bytes, from ``'URI' NAME SIZE HASH`` lines."""
    fields = (line.split() for line in text.splitlines() if line.startswith("'"))
    return {parts[1]: int(parts[2]) for parts in fields if len(parts) >= 3 and parts[2].isdigit()}


def plan(folder: Path, python: str, debs: dict[str, int]) -> str:
    """What is going to be downloaded, how big it is, and where it goes."""
    left = {name: size for name, size in debs.items() if not (folder / "archives" / name).exists()}
    wheels = [name for name in RUNTIMES if not list((folder / "wheels").glob(f"{name.replace('-', '_')}-*.whl"))]
    parts = [f"{len(left)} Debian packages ({sum(left.values()) / 1e6:.0f} MB)"] if left else []
    parts += [f"the wheels of {', '.join(wheels)} for Python {python} (about {WHEELS_MB} MB in all)"] if wheels else []
    what = f"downloading {' and '.join(parts)}" if parts else "everything is downloaded"
    return f"{what}; in all about {DISK_MB} MB in {folder}, which may be deleted at any time"


def fetch(folder: Path, python: str) -> None:
    """Downloads what is not there; both programs check hashes and continue broken transfers."""
    _run(["apt-get", *apt_options(folder), "install", "--download-only", "-y", "-q", *wanted(python)])
    for name in RUNTIMES:
        if not list((folder / "wheels").glob(f"{name.replace('-', '_')}-*.whl")):
            _run(wheel_command(name, python, folder / "wheels"))


def wheel_command(name: str, python: str, target: Path) -> list[str]:
    try:
        requirement = f"{name}=={metadata.version(name)}"
    except metadata.PackageNotFoundError:
        requirement = name
    platforms = [part for platform in PLATFORMS for part in ("--platform", platform)]
    exactly = ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", python, *platforms]
    return [sys.executable, "-m", "pip", "download", "-q", *exactly, "-d", str(target), requirement]


def unpack(root: Root) -> None:
    """All packages into a new folder, which then takes the old one's place. Errors: `SetupFailed`, `OutputError`."""
    fresh = root.folder / "root.partial"
    try:
        remove(fresh)
        for deb in sorted((root.folder / "archives").glob("*.deb")):
            _run(["dpkg-deb", "-x", str(deb), str(fresh)])
        for wheel in sorted((root.folder / "wheels").glob("*.whl")):
            with zipfile.ZipFile(wheel) as opened:
                opened.extractall(fresh / "site")
        remove(root.system)
        fresh.rename(root.system)
    except OSError as error:
        raise OutputError(f"cannot write {root.system} ({error.strerror}); free space and run it again") from error
    except zipfile.BadZipFile as error:
        raise SetupFailed(f"a wheel in {root.folder / 'wheels'} is damaged; delete it and run it again") from error


def write_processor(system: Path) -> None:
    """What the guest reads about its processor: without it it would see the host's, and the runtimes crash on that."""
    cores = os.cpu_count() or 1
    text = "".join(
        f"processor\t: {core}\nBogoMIPS\t: 38.40\nFeatures\t: {FEATURES}\nCPU implementer\t: 0x41\n"
        "CPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: 0xd0b\nCPU revision\t: 0\n\n"
        for core in range(cores)
    )
    (system / "proc").mkdir(exist_ok=True)
    (system / "proc" / "cpuinfo").write_text(text, encoding="ascii")


def compile_plugin(root: Root) -> None:
    source = Path(__file__).with_name("plugin.c")
    with atomic_path(root.plugin) as temporary:
        _run(["cc", "-shared", "-fPIC", "-O2", "-o", str(temporary), str(source)])
    root.plugin.chmod(0o755)


def finish(root: Root, python: str) -> None:
    """Run the guest once, and only then call it ready."""
    _write_facts(root, python, {})
    try:
        reason = why_not(root)
        if reason:
            raise Unsupported(f"--device arm64: {reason}")
        done = _run(root.command(["-c", HELLO]))
        _write_facts(root, python, json.loads(done.stdout.splitlines()[-1]))
    except BaseException:
        root.marker.unlink(missing_ok=True)
        raise


HELLO = """
import json, platform
from importlib import metadata
import numpy, ncnn, onnxruntime, ai_edge_litert.interpreter
assert platform.machine() == "aarch64", platform.machine()
names = ("numpy", "ai-edge-litert", "onnxruntime", "ncnn")
print(json.dumps({name: metadata.version(name) for name in names}))
"""


def _write_facts(root: Root, python: str, packages: dict[str, str]) -> None:
    facts = {"format": FORMAT, "python": python, "cpu": CPU, "emulator": EMULATOR, "packages": packages}
    with atomic_path(root.marker) as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _run(command: Sequence[str], check: bool = True) -> subprocess.CompletedProcess[str]:
    """Errors: `SetupFailed` with the program's own last word."""
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(list(command), capture_output=True, text=True, check=False, env=environment)
    if check and done.returncode:
        said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        program = "pip" if "pip" in command else Path(command[0]).name
        why = said[-1] if said else f"exit code {done.returncode}"
        raise SetupFailed(f"{program} failed: {why}; run it again to go on from here")
    return done
