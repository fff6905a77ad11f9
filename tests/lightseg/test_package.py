"""What importing the parts of the package loads; the package as a whole is tested in tests/project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "onnx", "onnxruntime", "onnxscript", "ai_edge_litert", "tensorflow", "coremltools", "tensorrt",
         "tensorrt_rtx", "openvino", "ncnn", "litert_torch", "cv2", "rich", "yaml", "numpy", "PIL")  # fmt: skip


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("lightseg", ()),
        ("lightseg.cli", ()),
        ("lightseg.errors", ()),
        ("lightseg.spec", ()),
        ("lightseg.files", ()),
        ("lightseg.download", ()),
        ("lightseg.images", ("numpy", "PIL")),
        ("lightseg.predict", ("numpy", "PIL")),
        ("lightseg.export", ()),
        ("lightseg.train", ()),
        ("lightseg.benchmarks", ()),
        ("lightseg.zoo", ("torch", "numpy")),
    ],
)
def test_importing_loads_nothing_heavy(module: str, allowed: tuple[str, ...]) -> None:
    assert loaded_by(f"import {module}") & set(HEAVY) <= set(allowed)


def test_models_are_loaded_on_demand() -> None:
    assert "torch" in loaded_by("import lightseg; lightseg.MODELS")
    import lightseg

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lightseg.nothing  # noqa: B018
