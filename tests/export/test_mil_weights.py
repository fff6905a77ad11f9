"""weight.bin as coremltools writes it, read back; and everything that is not one."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from lightseg.errors import BadInput, Unsupported
from lightseg.export.mil.weights import WeightFile
from lightseg.export.writers.mil import quiet
from tests.export.subjects import require

WRITERS = {
    "float32": "write_float_data", "float16": "write_fp16_data", "uint8": "write_uint8_data", "int8": "write_int8_data",
    "int16": "write_int16_data", "uint16": "write_uint16_data", "int32": "write_int32_data",
    "uint32": "write_uint32_data",
}  # fmt: skip


def _write(path: Path, arrays: list[NDArray[Any]]) -> list[int]:
    """Through coremltools' own writer; float16 goes in as its bits."""
    with quiet():
        from coremltools.libmilstoragepython import _BlobStorageWriter

    writer = _BlobStorageWriter(str(path))
    bits = [a.view(np.uint16) if a.dtype == np.float16 else a for a in arrays]
    offsets = [getattr(writer, WRITERS[str(a.dtype)])(b) for a, b in zip(arrays, bits)]
    del writer
    return offsets


ARRAYS = st.sampled_from(sorted(WRITERS)).flatmap(lambda t: hnp.arrays(t, st.integers(1, 40)))


@settings(max_examples=60, deadline=None)
@given(arrays=st.lists(ARRAYS, min_size=1, max_size=5))
def test_reads_what_coremltools_wrote(arrays: list[NDArray[Any]], tmp_path_factory: pytest.TempPathFactory) -> None:
    require("coreml")
    path = tmp_path_factory.mktemp("blob") / "weight.bin"
    offsets = _write(path, arrays)
    file = WeightFile(path)
    for array, offset in zip(arrays, offsets):
        got = file.read(offset)
        assert got.dtype == array.dtype
        assert got.tobytes() == array.tobytes()  # NaN and −0 too


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, int]:
    require("coreml")
    path = tmp_path / "weight.bin"
    return path, _write(path, [np.arange(20, dtype=np.float32)])[0]


def test_cut_off(written: tuple[Path, int]) -> None:
    path, offset = written
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match="damaged or cut off; export it again"):
        WeightFile(path).read(offset)


@pytest.mark.parametrize("size", [0, 7, 63])
def test_hardly_anything_left(size: int, written: tuple[Path, int]) -> None:
    path, _ = written
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(BadInput, match=r"not a weight file of version 2 \(found None\)"):
        WeightFile(path)


@pytest.mark.parametrize("offset", [0, 65, 128, 10**9])
def test_no_array_there(offset: int, written: tuple[Path, int]) -> None:
    with pytest.raises(BadInput, match="export it again"):
        WeightFile(written[0]).read(offset)


def test_another_version(written: tuple[Path, int]) -> None:
    path, _ = written
    path.write_bytes(struct.pack("<II", 1, 3) + path.read_bytes()[8:])
    with pytest.raises(BadInput, match=r"version 2 \(found 3\)"):
        WeightFile(path)


def test_a_packed_type_is_refused_by_number(written: tuple[Path, int]) -> None:
    path, offset = written
    data = bytearray(path.read_bytes())
    data[offset + 4 : offset + 8] = struct.pack("<I", 11)
    path.write_bytes(data)
    with pytest.raises(Unsupported, match="element type 11"):
        WeightFile(path).read(offset)


def test_a_size_that_ends_inside_a_value(written: tuple[Path, int]) -> None:
    path, offset = written
    data = bytearray(path.read_bytes())
    data[offset + 8 : offset + 16] = struct.pack("<Q", 79)
    path.write_bytes(data)
    with pytest.raises(BadInput, match="ends inside a value"):
        WeightFile(path).read(offset)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        WeightFile(tmp_path / "weight.bin")
