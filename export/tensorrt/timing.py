"""How long kernels took on this GPU, kept between builds: the slowest part of compiling for the GPU at hand.

TensorRT alone times kernels when it compiles. TensorRT-RTX chooses them on the user's GPU at the first run, and says of
its own timing cache that it does nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightseg.files import atomic_path

TIMES = "tensorrt"
"""The package that has a use for it."""


def cache_path(module: str, version: str) -> Path | None:
    """Where timings of this version are kept; None for a package that has none. The library checks the GPU itself."""
    from lightseg.weights import cache_dir  # PyTorch comes with it, which loading a file must not need

    return cache_dir() / module / f"{version}.timing" if module == TIMES else None


def read_timings(config: Any, path: Path | None) -> None:
    """Give ``config`` what earlier builds measured. The library ignores timings of another GPU or version."""
    if path is not None:
        known = path.read_bytes() if path.is_file() else b""
        config.set_timing_cache(config.create_timing_cache(known), False)


def write_timings(config: Any, path: Path | None) -> None:
    """Errors: `OutputError` where the cache's folder cannot be written."""
    if path is not None:
        content = bytes(config.get_timing_cache().serialize())
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
