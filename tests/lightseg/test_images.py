"""Photographs as people have them, and files that are none."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lightseg.errors import BadInput, OutputError
from lightseg.images import Photo, bilinear, normalise, read_photo, resize, sample_photo, to_input, write_png
from lightseg.spec import Preprocess

TURNS: dict[int, Callable[[Photo], Photo]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}
"""EXIF orientation → how the camera stored an upright picture."""


@pytest.fixture
def upright() -> Photo:
    """16×24 with a different colour in every corner, in blocks that survive a JPEG."""
    photo = np.zeros((16, 24, 3), np.uint8)
    photo[:8, :8], photo[:8, 16:], photo[8:, :8], photo[8:, 16:] = (255, 0, 0), (0, 255, 0), (0, 0, 255), 255
    return photo


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options: Any) -> Path:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", TURNS)
def test_exif_rotation(orientation: int, suffix: str, upright: Photo, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"a.{suffix}", TURNS[orientation](upright), exif=exif, quality=95)
    read = read_photo(path)
    assert read.shape == upright.shape and read.dtype == np.uint8 and read.flags.writeable
    assert abs(read.astype(int) - upright)[2:-2, 2:-2].mean() < 8


@pytest.mark.parametrize(
    ("mode", "suffix", "tolerance"),
    [("L", "png", 0), ("L", "jpg", 4), ("1", "png", 0), ("P", "png", 0), ("P", "gif", 0), ("CMYK", "tiff", 1),
     ("CMYK", "jpg", 4), ("YCbCr", "jpg", 4), ("RGB", "bmp", 0), ("LA", "png", 0), ("RGBA", "png", 0)],
)  # fmt: skip
def test_modes_become_rgb(mode: str, suffix: str, tolerance: int, upright: Photo, tmp_path: Path) -> None:
    options = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    path = save(tmp_path / f"a.{suffix}", upright, mode, **options)
    expected = np.asarray(Image.fromarray(upright).convert("RGB" if mode not in "L LA 1" else mode).convert("RGB"))
    read = read_photo(path)
    assert read.shape == (16, 24, 3) and read.dtype == np.uint8
    assert abs(read.astype(int) - expected).max() <= tolerance


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 3] = (0, 128, 255)
    assert read_photo(save(tmp_path / "a.png", pixels))[0, :, 0].tolist() == [255, 127, 0]


def test_transparent_palette_entry_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=0)
    assert read_photo(tmp_path / "a.png").tolist() == [[[255, 255, 255], [40, 50, 60]]]


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_grey_is_scaled_not_clipped(suffix: str, tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 32896, 65535]], np.uint16)
    read = read_photo(save(tmp_path / f"a.{suffix}", values))
    assert read[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]
    assert (read[..., 0] == read[..., 1]).all() and (read[..., 0] == read[..., 2]).all()


def png16(path: Path, values: np.ndarray) -> Path:
    """A 16-bit RGB PNG, which Pillow reads but cannot write."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    return path


def test_16_bit_colour_is_scaled(tmp_path: Path) -> None:
    values = np.array([[[0, 30000, 65535], [257 * 7, 257 * 200, 300]]], np.uint16)
    read = read_photo(png16(tmp_path / "a.png", values))
    assert abs(read - values / 257).max() <= 1


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [(np.full((2, 2), 0.5, np.float32), "floating-point"), (np.full((2, 2), 70000, np.int32), "32-bit")],
)
def test_values_without_a_white_are_refused(pixels: np.ndarray, reason: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=rf"a\.tiff: a {reason} picture does not say what white is"):
        read_photo(save(tmp_path / "a.tiff", pixels))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_truncated(suffix: str, share: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    path = save(tmp_path / f"a.{suffix}", noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BadInput) as error:
        read_photo(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"%PDF-1.4", b"\xff\xd8\xff\xe0"])
def test_no_picture(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(BadInput, match=r"a\.jpg (is no picture|is damaged)"):
        read_photo(tmp_path / "a.jpg")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jpg", tmp_path):
        with pytest.raises(BadInput, match=r"cannot open .*; check the path"):
            read_photo(path)


def test_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png", np.zeros((10, 10, 3), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(BadInput, match="more pixels than is safe"):
        read_photo(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)
    assert read_photo(path).shape == (10, 10, 3), "between the limit and its double Pillow only warns"


def test_sample_photo_is_small_and_explained() -> None:
    assert read_photo(sample_photo()).shape == (512, 512, 3)
    assert sample_photo().stat().st_size <= 80_000
    assert "public domain" in (sample_photo().parent / "README.md").read_text()


def test_smooth_resize_does_not_alias() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert abs(resize(stripes, (8, 16)).astype(int) - 128)[:, 1:-1].max() <= 8
    assert resize(stripes, (8, 16)).shape == (8, 16, 3)


def test_bilinear_by_hand() -> None:
    row = np.array([[[0, 4]]], np.float32)
    assert bilinear(row, (1, 4)).tolist() == [[[0, 1, 3, 4]]]
    assert bilinear(row.transpose(0, 2, 1), (4, 1))[0, :, 0].tolist() == [0, 1, 3, 4]
    assert bilinear(row, (1, 2)).tolist() == row.tolist()
    assert bilinear(row, (1, 1)).tolist() == [[[2]]]


@pytest.mark.parametrize("size", [(7, 5), (40, 33), (23, 17), (1, 1)])
def test_bilinear_equals_torch_and_strips_equal_the_whole(size: tuple[int, int]) -> None:
    import torch
    import torch.nn.functional as F

    planes = np.random.default_rng(0).normal(size=(3, 23, 17)).astype(np.float32)
    whole = bilinear(planes, size)
    expected = F.interpolate(torch.from_numpy(planes)[None], size, mode="bilinear", align_corners=False)[0]
    np.testing.assert_allclose(whole, expected, atol=1e-5)
    parts = [bilinear(planes, size, slice(i, i + 3)) for i in range(0, size[0], 3)]
    assert np.array_equal(np.concatenate(parts, 1), whole) and whole.dtype == np.float32


@pytest.mark.parametrize("resampling", ["smooth", "point"])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_to_input_orders_and_scales_channels(order: str, resampling: str) -> None:
    photo = np.full((5, 9, 3), (10, 20, 30), np.uint8)
    preprocess = Preprocess(order, (1, 2, 3), (2, 4, 8))  # type: ignore[arg-type]
    x = to_input(photo, (4, 6), preprocess, resampling)  # type: ignore[arg-type]
    ordered = (10, 20, 30) if order == "RGB" else (30, 20, 10)
    assert x.shape == (1, 3, 4, 6) and x.dtype == np.float32
    for channel, value, mean, std in zip(x[0], ordered, preprocess.mean, preprocess.std):
        assert (channel == (value - mean) / std).all()
    assert np.array_equal(x, normalise(np.full((1, 3, 4, 6), 1, np.float32) * photo[0, 0][:, None, None], preprocess))


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3), (4, 6, 4)])
def test_write_png_round_trip(shape: tuple[int, ...], tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    path = write_png(tmp_path / "new" / "a.png", pixels)
    assert np.array_equal(np.asarray(Image.open(path)), pixels)


def test_write_png_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    path = write_png(tmp_path / "a.png", np.zeros((2, 2), np.uint8))
    before = path.read_bytes()

    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OutputError, match="No space left"):
        write_png(path, np.ones((2, 2), np.uint8))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
