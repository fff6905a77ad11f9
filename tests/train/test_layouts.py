from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from lightseg.camvid import CAMVID, CAMVID_MERGE
from lightseg.errors import BadInput
from lightseg.train.check import check
from lightseg.train.datasets import read, split
from lightseg.train.layouts import LAYOUTS, VOID, find_pairs, lonely, merged
from lightseg.train.statistics import count, joined, kept
from lightseg.zoo import find_spec


def put(path: Path, value: int, size: tuple[int, int] = (6, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full(size, value, np.uint8))


def city(root: Path, split: str, stem: str, suffix: str, value: int) -> None:
    put(root / "leftImg8bit" / split / "ulm" / f"{stem}_leftImg8bit.png", 90)
    put(root / "gtFine" / split / "ulm" / f"{stem}_gtFine_{suffix}.png", value)


def test_plain_folders_need_no_manifest(tmp_path: Path) -> None:
    put(tmp_path / "a/images/x.jpg", 10)
    put(tmp_path / "a/images/lonely.jpg", 10)
    put(tmp_path / "a/masks/x.png", 255)
    put(tmp_path / "b/images/y.jpg", 10)
    put(tmp_path / "b/masks/y.png", 0)
    pairs = find_pairs("pairs", tmp_path, "a+b")
    assert [p.name for p in pairs] == ["x", "y"]
    assert [int(read(p)[1].max()) for p in pairs] == [1, 0]


def test_eg1800(tmp_path: Path) -> None:
    put(tmp_path / "train/Images/00001.jpg", 10)
    put(tmp_path / "train/Labels/00001.png", 255)
    assert [p.name for p in find_pairs("eg1800", tmp_path, "train")] == ["00001"]


def test_camvid_as_segnet_lays_it_out(tmp_path: Path) -> None:
    put(tmp_path / "train/s.png", 10)
    put(tmp_path / "trainannot/s.png", 9)
    (pair,) = find_pairs("camvid", tmp_path, "train")
    assert set(read(pair, "camvid")[1].ravel()) == {11}  # pedestrian is Cityscapes' person


@pytest.mark.parametrize(
    ("suffix", "stored", "expected"),
    [
        ("labelIds", 24, 11),
        ("labelIds", 7, 0),
        ("labelIds", 0, VOID),
        ("labelTrainIds", 11, 11),
        ("labelTrainIds", 19, VOID),
        ("labelTrainIds", 255, VOID),
    ],
)
def test_cityscapes_in_both_encodings(tmp_path: Path, suffix: str, stored: int, expected: int) -> None:
    city(tmp_path, "train", "ulm_000000_000019", suffix, stored)
    (pair,) = find_pairs("cityscapes", tmp_path, "leftImg8bit/train")
    assert pair.source == "ulm"
    assert set(read(pair, "cityscapes")[1].ravel()) == {expected}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_missing_data_says_where_to_get_it(tmp_path: Path, layout: str) -> None:
    with pytest.raises(BadInput) as error:
        find_pairs(layout, tmp_path, "train")
    assert LAYOUTS[layout].how in str(error.value)


def test_camvid_classes_are_distinct_and_the_merged_ones_end_in_them() -> None:
    assert len(set(CAMVID)) == 11
    assert {coarse for _, coarse in CAMVID_MERGE} <= set(CAMVID)
    assert {fine for fine, _ in CAMVID_MERGE} | set(CAMVID) == set(range(19))
    assert merged(np.array([[3, 14, 0]], np.uint8), CAMVID_MERGE).tolist() == [[2, 13, 0]]


def test_a_held_out_part_is_stable_and_disjoint(demo: Path) -> None:
    pairs = find_pairs("pairs", demo, "portrait_train")
    inside, held = split(pairs, 0.3)
    assert {p.name for p in inside} | {p.name for p in held} == {p.name for p in pairs}
    assert 0 < len(held) < len(pairs) and not {p.name for p in inside} & {p.name for p in held}
    assert split(pairs[3:], 0.3)[1] == [p for p in held if p in pairs[3:]]


def test_statistics_are_numpy_s_and_are_counted_once(demo: Path, tmp_path: Path) -> None:
    pairs = find_pairs("pairs", demo, "portrait_train")
    pixels = np.concatenate([read(p)[0].reshape(-1, 3) for p in pairs])
    found = joined([count(pairs[:5], "pairs"), count(pairs[5:], "pairs")])
    assert found.mean == pytest.approx(pixels.mean(0))
    assert found.std == pytest.approx(pixels.std(0))
    assert sum(found.classes) == len(pixels)
    kept(tmp_path / "s.json", pairs, "pairs")
    missing = [type(p)(p.name, Path("gone.jpg"), p.mask) for p in pairs]
    assert kept(tmp_path / "s.json", missing, "pairs").mean == pytest.approx(found.mean)


def test_check_names_every_broken_file(demo: Path, tmp_path: Path) -> None:
    put(tmp_path / "a/images/good.jpg", 10)
    put(tmp_path / "a/masks/good.png", 255)
    put(tmp_path / "a/images/other_size.jpg", 10)
    put(tmp_path / "a/masks/other_size.png", 255, (3, 3))
    put(tmp_path / "a/masks/damaged.png", 255)
    (tmp_path / "a/images/damaged.jpg").write_bytes(b"no image")
    found, sheet = check(find_pairs("pairs", tmp_path, "a"), "pairs", find_spec("sinet").labels)
    assert len(found.broken) == 2
    assert "other_size" in " ".join(found.broken) and "damaged.jpg" in " ".join(found.broken)
    assert found.empty == ["good"] and found.sizes == {"8x6": 1} and sheet is not None


@pytest.mark.parametrize("text", ['{"items": [', '{"pairs": []}', '{"items": [{"id": "a"}]}', "[]", '{"items": ["a"]}'])
def test_a_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    put(tmp_path / "a/images/x.jpg", 10)
    put(tmp_path / "a/masks/x.png", 255)
    (tmp_path / "a/manifest.json").write_text(text)
    with pytest.raises(BadInput, match=r"manifest.json is no list of pairs .* or remove it"):
        find_pairs("pairs", tmp_path, "a")
    (tmp_path / "a/manifest.json").unlink()
    assert len(find_pairs("pairs", tmp_path, "a")) == 1


def test_lonely_files_of_cityscapes_are_images_without_labels(tmp_path: Path) -> None:
    city(tmp_path, "train", "ulm_0", "labelIds", 7)
    put(tmp_path / "gtFine/train/ulm/ulm_0_gtFine_color.png", 7)
    assert lonely("cityscapes", tmp_path, "leftImg8bit/train") == []
    alone = tmp_path / "leftImg8bit/train/bonn/bonn_0_leftImg8bit.png"
    put(alone, 9)
    assert lonely("cityscapes", tmp_path, "leftImg8bit/train") == [alone]


def test_lonely_files_of_joined_folders(tmp_path: Path) -> None:
    for name in "ab":
        put(tmp_path / name / "Images/1.jpg", 10)
        put(tmp_path / name / "Labels/1.png", 255)
    put(tmp_path / "b/Labels/2.png", 255)
    assert lonely("eg1800", tmp_path, "a+b") == [tmp_path / "b/Labels/2.png"]
