"""The programs that run artifacts in a browser: npm packages of fixed versions, kept in the user's cache.

What is fetched is one file each from the registry that npm is set to; it counts only if its sha512 is the one written
here, and a package's folder appears in the cache in one step, whole.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from lightseg.errors import LightsegError, Unsupported
from lightseg.files import atomic_path

SETUP = "lightseg-bench --device browser --setup"
NPM_SECONDS = 900.0


class SetupFailed(LightsegError):
    """A package could not be fetched, or was not what it should be."""


@dataclass(frozen=True)
class Package:
    """One npm package. ``files`` are the patterns of what is kept of it."""

    name: str
    version: str
    integrity: str
    megabytes: float
    """Of the download, measured."""
    files: tuple[str, ...]

    @property
    def folder_name(self) -> str:
        return f"{self.name.replace('/', '-').lstrip('@')}-{self.version}"


@dataclass(frozen=True)
class Runtime:
    """What runs one kind of artifact. The page's ``runtimes.mjs`` has the function of the same name."""

    name: str
    target: str
    packages: tuple[Package, ...]

    @property
    def version(self) -> str:
        return self.packages[0].version


ONNXRUNTIME = Package(
    "onnxruntime-web",
    "1.30.0",
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
    33.1,
    ("dist/ort.wasm.min.mjs", "dist/ort-wasm-simd-threaded.mjs", "dist/ort-wasm-simd-threaded.wasm", "LICENSE*"),
)
LITERT = Package(
    "@litertjs/core",
    "2.5.3",
    "sha512-PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==",
    11.8,
    ("dist/index.js", "wasm/*.js", "wasm/*.wasm", "LICENSE*"),
)
LITERT_LOADER = Package(
    "@litertjs/wasm-utils",
    "2.5.3",
    "sha512-4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==",
    0.1,
    ("dist/index.js", "LICENSE*"),
)
RUNTIMES = (
    Runtime("onnxruntime-web", "onnx", (ONNXRUNTIME,)),
    Runtime("LiteRT.js", "tflite", (LITERT, LITERT_LOADER)),
)


def default_folder() -> Path:
    """In the user's cache."""
    from lightseg.weights import cache_dir

    return cache_dir() / "browser"


def packages(runtimes: Iterable[Runtime] = RUNTIMES) -> list[Package]:
    return [package for runtime in runtimes for package in runtime.packages]


def why_not(folder: Path) -> str | None:
    """The reason nothing can be run in a browser yet, with what to type; None when all runtimes are there."""
    absent = [p.name for p in packages() if not (folder / p.folder_name).is_dir()]
    return f"{' and '.join(absent)} not fetched yet; run: {SETUP}" if absent else None


def require(folder: Path) -> None:
    """Errors: `Unsupported` in one line."""
    reason = why_not(folder)
    if reason:
        raise Unsupported(f"no runtime for the browser: {reason}")


def set_up(folder: Path, announce: Callable[[str], None]) -> None:
    """Fetch what is not there. Errors: `Unsupported` without npm, `SetupFailed`, `OutputError`."""
    absent = [p for p in packages() if not (folder / p.folder_name).is_dir()]
    npm = shutil.which("npm")
    if absent and npm is None:
        raise Unsupported("the runtimes for the browser come through npm; install it with: apt-get install npm")
    for package in absent:
        announce(f"fetching {package.name} {package.version} ({package.megabytes:.1f} MB) into {folder}")
        with tempfile.TemporaryDirectory(prefix="lightseg-npm-") as temporary:
            file = fetch(package, Path(temporary), npm or "npm")
            check(package, file)
            unpack(package, file, folder / package.folder_name)
    announce(f"ready: {', '.join(f'{p.name} {p.version}' for p in packages())}")


def fetch(package: Package, into: Path, npm: str) -> Path:
    """The package's archive, by npm and so from the registry the user's npm is set to. Errors: `SetupFailed`."""
    command = [npm, "pack", f"{package.name}@{package.version}", "--pack-destination", str(into), "--loglevel=error"]
    try:
        # In an empty folder, so that no project's own settings apply.
        done = subprocess.run(command, cwd=into, capture_output=True, text=True, check=False, timeout=NPM_SECONDS)
    except subprocess.TimeoutExpired:
        raise SetupFailed(f"npm did not bring {package.name} in {NPM_SECONDS:.0f} s; run it again") from None
    found = list(into.glob("*.tgz"))
    if done.returncode or len(found) != 1:
        raise SetupFailed(f"npm could not fetch {package.name} {package.version}: {_why(done.stderr)}; run it again")
    return found[0]


def _why(said: str) -> str:
    """npm's own reason: the first line of its errors that is no bare code, else the last line."""
    lines = [line.removeprefix("npm error").strip() for line in said.splitlines() if line.strip()]
    told = [line for line in lines if line and not line.startswith(("code ", "errno ", "A complete log"))]
    return (told or lines or ["it said nothing"])[0]


def check(package: Package, file: Path) -> None:
    """Errors: `SetupFailed` when ``file`` is not the archive whose hash is written here."""
    digest = "sha512-" + base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode()
    if digest != package.integrity:
        raise SetupFailed(
            f"what npm brought as {package.name} {package.version} has another sha512 than published; "
            "nothing was kept; check npm's registry setting with: npm config get registry"
        )


def unpack(package: Package, file: Path, target: Path) -> None:
    """The wanted files of an npm archive, whose names all begin with a folder of its own. Errors: as `set_up`."""
    with atomic_path(target, folder=True) as folder, tarfile.open(file) as archive:
        kept = 0
        for member in archive:
            name = member.name.partition("/")[2]
            if not member.isfile() or ".." in name or not any(fnmatch(name, pattern) for pattern in package.files):
                continue
            content = archive.extractfile(member)
            assert content is not None
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content.read())
            kept += 1
        if kept < sum(not pattern.startswith("LICENSE") for pattern in package.files):
            raise SetupFailed(f"the archive of {package.name} {package.version} lacks files it should have")
