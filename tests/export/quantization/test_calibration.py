"""Folders of photographs: split by content, refused in one line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lightseg.errors import BadInput
from lightseg.export.quantization.calibration import FEWEST, Calibration, gather
from tests.export.quantization.photos import write_masks, write_photos


def hashes(found: Calibration) -> list[set[str]]:
    return [{p.sha256 for p in part} for part in (found.ranges, found.choosing, found.judging)]


def test_no_photograph_serves_twice(tmp_path: Path) -> None:
    ranges, choosing, judging = hashes(gather(write_photos(tmp_path / "a", FEWEST)))
    assert len(ranges) + len(choosing) + len(judging) == FEWEST
    assert not (ranges & choosing or ranges & judging or choosing & judging)
    assert min(len(ranges), len(choosing), len(judging)) >= FEWEST // 4


def test_the_split_goes_by_content_and_not_by_name(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "a", FEWEST + 5)
    before = hashes(gather(folder))
    for i, file in enumerate(sorted(folder.iterdir(), reverse=True)):
        file.rename(folder / f"renamed_{i:03}.png")
    assert hashes(gather(folder)) == before


def test_copies_count_once(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "a", FEWEST - 1)
    shutil.copy(next(folder.iterdir()), folder / "copy.png")
    with pytest.raises(BadInput, match=f"holds {FEWEST - 1} different photographs"):
        gather(folder)


def test_masks_beside_the_images_are_found(tmp_path: Path) -> None:
    images = write_photos(tmp_path / "data" / "images", FEWEST)
    assert all(p.mask is None for p in gather(images).judging)
    write_masks(images)
    for folder in (images, tmp_path / "data"):
        (picture, *_) = gather(folder).judging
        assert picture.mask is not None
        truth = picture.truth((32, 32))
        assert truth[:, 16:].all() and not truth[:, :16].any()


def empty(folder: Path) -> tuple[Path, Path | None]:
    (folder / "a").mkdir()
    return folder / "a", None


def missing(folder: Path) -> tuple[Path, Path | None]:
    return folder / "nowhere", None


def tiny(folder: Path) -> tuple[Path, Path | None]:
    return write_photos(folder / "a", 3), None


def tiny_evaluation(folder: Path) -> tuple[Path, Path | None]:
    return write_photos(folder / "a", FEWEST), write_photos(folder / "b", 3, seed=1)


def overlapping(folder: Path) -> tuple[Path, Path | None]:
    first, second = write_photos(folder / "a", FEWEST), write_photos(folder / "b", FEWEST, seed=1)
    shutil.copy(next(first.iterdir()), second / "other_name.png")
    return first, second


REFUSED: dict[str, tuple[Callable[[Path], tuple[Path, Path | None]], str]] = {
    "empty": (empty, "holds no photographs"),
    "missing": (missing, "no folder .*; give --calibration"),
    "tiny": (tiny, f"holds 3 different photographs; --calibration needs at least {FEWEST}"),
    "tiny evaluation": (tiny_evaluation, f"--evaluation needs at least {FEWEST}"),
    "overlap": (overlapping, r"1 of the images in .* \(same sha256\)"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_folders_that_cannot_serve_are_refused_in_one_line(what: str, tmp_path: Path) -> None:
    make, said = REFUSED[what]
    calibration, evaluation = make(tmp_path)
    with pytest.raises(BadInput, match=said) as caught:
        gather(calibration, evaluation)
    assert "\n" not in str(caught.value)


def test_a_damaged_photograph_is_named(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "a", FEWEST)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    found = gather(folder)
    with pytest.raises(BadInput, match=r"broken\.jpg"):
        for picture in (*found.ranges, *found.choosing, *found.judging):
            picture.read((32, 32))
