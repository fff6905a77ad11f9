"""From a model to a proven artifact.

>>> from lightseg import create_model
>>> from lightseg.export import export, load, verify
>>> artifact = export(create_model("sinet"), to="tflite")
>>> logits = load(artifact.path)(image)
>>> verify(artifact.path)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightseg.export.artifact import Artifact
    from lightseg.export.pipeline import Request, export, matrix
    from lightseg.export.record import read_artifact
    from lightseg.export.verification import Verification, load, verify

__all__ = ["Artifact", "Request", "Verification", "export", "load", "matrix", "read_artifact", "verify"]

_HOMES = {
    "artifact": ("Artifact",),
    "record": ("read_artifact",),
    "verification": ("Verification", "load", "verify"),
}
"""The modules that need no PyTorch, and what they define; the other names are the pipeline's."""


def __getattr__(name: str) -> Any:
    """Load what is used and no more: ``--help`` must not wait for torch, and a file is verified without it."""
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module 'lightseg.export' has no attribute {name!r}")
    home = next((module for module, names in _HOMES.items() if name in names), "pipeline")
    return getattr(import_module(f"lightseg.export.{home}"), name)
