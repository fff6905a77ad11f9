"""Fetching the runtimes: through npm, by hash, whole or not at all."""

from __future__ import annotations

import base64
import hashlib
import io
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lightseg.benchmarks import cli
from lightseg.benchmarks.browser import runtimes
from lightseg.benchmarks.browser.runtimes import Package, SetupFailed, packages, require, set_up
from lightseg.errors import Unsupported

Capture = pytest.CaptureFixture[str]
CONTENT = {"package/dist/run.js": b"run", "package/dist/run.js.map": b"map", "package/../../out.js": b"out"}
WANTED = ("dist/*.js", "LICENSE*")


def archive(content: dict[str, bytes]) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as file:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return held.getvalue()


ARCHIVE = archive(CONTENT)
PACKAGE = Package(
    "@scope/name",
    "1.2.3",
    "sha512-" + base64.b64encode(hashlib.sha512(ARCHIVE).digest()).decode(),
    0.1,
    WANTED,
)


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """An npm on the path that does what a test wants, given as Python; only one package is asked for."""
    monkeypatch.setattr(runtimes, "packages", lambda: [PACKAGE])
    (tmp_path / "bin").mkdir()
    (tmp_path / "archive").write_bytes(ARCHIVE)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def does(program: str) -> None:
        file = tmp_path / "bin" / "npm"
        file.write_text(f"#!{sys.executable}\nimport shutil, sys\n{program}\n")
        file.chmod(0o755)

    does(f"shutil.copy({str(tmp_path / 'archive')!r}, sys.argv[sys.argv.index('--pack-destination') + 1] + '/x.tgz')")
    return does


def fetched(tmp_path: Path) -> list[str]:
    lines: list[str] = []
    set_up(tmp_path / "cache", lines.append)
    return lines


@pytest.mark.usefixtures("npm")
def test_only_what_is_needed_is_kept(tmp_path: Path) -> None:
    lines = fetched(tmp_path)
    cache = tmp_path / "cache"
    found = sorted(p.relative_to(cache).as_posix() for p in cache.rglob("*.*") if p.is_file())
    assert found == ["scope-name-1.2.3/dist/run.js"]
    assert "fetching @scope/name 1.2.3 (0.1 MB)" in lines[0]
    assert lines[-1] == "ready: @scope/name 1.2.3"


def test_what_is_there_is_not_fetched_again(npm: Callable[[str], None], tmp_path: Path) -> None:
    fetched(tmp_path)
    npm("sys.exit(9)")
    assert fetched(tmp_path) == ["ready: @scope/name 1.2.3"]


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("print('npm error code E404\\nnpm error 404 Not Found', file=sys.stderr); sys.exit(1)", "404 Not Found"),
        ("sys.exit(3)", "it said nothing"),
        ("pass", "could not fetch @scope/name 1.2.3"),
        (
            "open(sys.argv[sys.argv.index('--pack-destination') + 1] + '/x.tgz', 'wb').write(b'forged')",
            "another sha512 than published; nothing was kept",
        ),
    ],
)
def test_failures_are_one_line_and_leave_nothing(
    program: str, says: str, npm: Callable[[str], None], tmp_path: Path
) -> None:
    npm(program)
    with pytest.raises(SetupFailed, match=says) as caught:
        fetched(tmp_path)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").glob("*")) if (tmp_path / "cache").exists() else True


@pytest.mark.usefixtures("npm")
def test_an_archive_without_a_wanted_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "packages", lambda: [replace(PACKAGE, files=("dist/*.js", "wasm/*.wasm"))])
    with pytest.raises(SetupFailed, match="lacks files"):
        fetched(tmp_path)
    assert not (tmp_path / "cache" / PACKAGE.folder_name).exists()


def test_without_npm_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsupported, match="apt-get install npm"):
        set_up(tmp_path / "cache", lambda line: None)


def test_nothing_runs_before_the_set_up(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="lightseg-bench --device browser --setup"):
        require(tmp_path)
    for package in packages():
        (tmp_path / package.folder_name).mkdir()
    require(tmp_path)


def test_every_package_is_pinned_by_a_sha512() -> None:
    for package in packages():
        kind, _, digest = package.integrity.partition("-")
        assert (kind, len(base64.b64decode(digest))) == ("sha512", 64)


def test_the_command_sets_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for package in packages():
        (tmp_path / "lightseg" / "browser" / package.folder_name).mkdir(parents=True)
    assert cli.main(["--device", "browser", "--setup"]) == 0
    assert "ready: onnxruntime-web" in capsys.readouterr().err
