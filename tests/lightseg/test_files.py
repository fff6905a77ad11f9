"""A failed write leaves what was there before."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from lightseg.errors import OutputError
from lightseg.files import atomic_path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_text("old")
    return path


def untouched(target: Path) -> bool:
    return target.read_text() == "old" and list(target.parent.iterdir()) == [target]


def test_replaces_when_the_block_ends_well(target: Path) -> None:
    with atomic_path(target) as temporary:
        assert temporary.suffix == target.suffix and temporary.parent == target.parent
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new" and list(target.parent.iterdir()) == [target]


def test_new_files_get_ordinary_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "deep" / "er" / "a.json") as temporary:
            temporary.write_text("{}")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "deep" / "er" / "a.json").stat().st_mode) == 0o640


@pytest.mark.parametrize("error", [RuntimeError("converter died"), KeyboardInterrupt()])
def test_an_error_in_the_block_leaves_the_old_file(error: BaseException, target: Path) -> None:
    with pytest.raises(type(error)), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise error
    assert untouched(target)


@pytest.mark.parametrize("where", ["os.fsync", "pathlib.Path.replace"])
def test_disk_full(where: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(where, full)
    said = r"cannot write .*No space left on device.*untouched"
    with pytest.raises(OutputError, match=said), atomic_path(target) as temporary:
        temporary.write_text("half")
    assert untouched(target)


def test_disk_full_while_writing(target: Path) -> None:
    with pytest.raises(OutputError, match="No space left"), atomic_path(target):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert untouched(target)


def test_a_file_where_the_folder_should_be(target: Path) -> None:
    said = r"cannot write to .*; choose another --out DIR"
    with pytest.raises(OutputError, match=said), atomic_path(target / "a.png"):
        raise AssertionError("the block must not start")
    assert untouched(target)


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not stop the superuser")
def test_read_only_folder(target: Path) -> None:
    target.parent.chmod(0o555)
    try:
        with pytest.raises(OutputError, match=r"Permission denied.*--out DIR"), atomic_path(target):
            raise AssertionError("the block must not start")
        assert untouched(target)
    finally:
        target.parent.chmod(0o755)


def test_read_only_file_system(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(OutputError, match=r"Read-only file system.*--out DIR"), atomic_path(target):
        raise AssertionError("the block must not start")
    assert untouched(target)


def test_a_link_stays_and_what_it_names_is_replaced(target: Path) -> None:
    link = target.with_name("latest.onnx")
    link.symlink_to(target)
    with atomic_path(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink() and target.read_text() == "new"


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with atomic_path(pipe) as temporary:
            temporary.write_text("news")
        assert os.read(reader, 100) == b"news" and stat.S_ISFIFO(pipe.stat().st_mode)
    finally:
        os.close(reader)
