"""Folders are replaced whole, measured and hashed like files."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from lightseg.errors import OutputError
from lightseg.files import atomic_path, copy_to, files_in, sha256_of, size_of


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "model.mlpackage"
    (path / "Data").mkdir(parents=True)
    (path / "Data" / "old").write_text("old")
    return path


def _fill(folder: Path) -> None:
    (folder / "Data").mkdir()
    (folder / "Data" / "new").write_text("new")
    (folder / "Manifest.json").write_text("{}")


def _names(folder: Path) -> list[str]:
    return [f.relative_to(folder).as_posix() for f in files_in(folder)]


def test_a_folder_is_replaced_whole(target: Path) -> None:
    with atomic_path(target, folder=True) as temporary:
        assert temporary.is_dir() and temporary.suffix == target.suffix and temporary.parent == target.parent
        _fill(temporary)
        assert _names(target) == ["Data/old"]
    assert _names(target) == ["Data/new", "Manifest.json"]
    assert list(target.parent.iterdir()) == [target]


def test_a_new_folder_gets_ordinary_permissions(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.mlpackage", folder=True) as temporary:
        _fill(temporary)
        (temporary / "Manifest.json").chmod(0o600)
    (tmp_path / "made").mkdir()
    mask = 0o777 & ~stat.S_IMODE((tmp_path / "made").stat().st_mode)
    assert stat.S_IMODE((tmp_path / "a.mlpackage").stat().st_mode) == 0o777 & ~mask
    assert stat.S_IMODE((tmp_path / "a.mlpackage" / "Manifest.json").stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("error", [RuntimeError("converter died"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_folder(error: BaseException, target: Path) -> None:
    with pytest.raises(type(error)), atomic_path(target, folder=True) as temporary:
        _fill(temporary)
        raise error
    assert _names(target) == ["Data/old"]
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails_brings_the_old_folder_back(
    failing: int, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = Path.replace, []

    def replace(self: Path, other: Path) -> Path:
        calls.append(self)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")
        return real(self, other)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OutputError, match="untouched"), atomic_path(target, folder=True) as temporary:
        _fill(temporary)
    assert _names(target) == ["Data/old"]
    assert list(target.parent.iterdir()) == [target]


def test_a_file_in_the_place_of_the_folder_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.mlpackage"
    path.write_text("mine")
    with pytest.raises(OutputError), atomic_path(path, folder=True) as temporary:
        _fill(temporary)
    assert path.read_text() == "mine"


def test_the_hash_sees_names_contents_and_where_one_ends(tmp_path: Path) -> None:
    base = {"a": "1", "b/c": "23"}
    changed = [{"a": "1", "b/c": "24"}, {"a": "1", "b/d": "23"}, {"a": "12", "b/c": "3"}, {"a": "1"}, {**base, "e": ""}]
    hashes = [sha256_of(_folder(tmp_path / str(i), files)) for i, files in enumerate([base, *changed])]
    assert len(set(hashes)) == len(hashes)
    assert sha256_of(_folder(tmp_path / "again", dict(reversed(base.items())))) == hashes[0]


def test_sizes_and_copies(tmp_path: Path) -> None:
    source = _folder(tmp_path / "a", {"x": "123", "y/z": "45"})
    assert size_of(source) == 5 and size_of(source / "x") == 3
    with atomic_path(tmp_path / "b", folder=True) as temporary:
        copy_to(source, temporary)
    assert sha256_of(tmp_path / "b") == sha256_of(source)


def _folder(path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return path
