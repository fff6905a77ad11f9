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
    from lightseg.export.artifact import Artifact, read_artifact
    from lightseg.export.pipeline import Request, Verification, export, load, matrix, verify

__all__ = ["Artifact", "Request", "Verification", "export", "load", "matrix", "read_artifact", "verify"]


def __getattr__(name: str) -> Any:
    """Load the stage only when it is used: ``--help`` must not wait for torch."""
    if name in ("Artifact", "read_artifact"):
        from lightseg.export import artifact

        return getattr(artifact, name)
    if name in __all__:
        from lightseg.export import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'lightseg.export' has no attribute {name!r}")
