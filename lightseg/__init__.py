"""lightseg: the smallest segmentation networks, exported with proof and measured honestly.

>>> from lightseg import create_model
>>> from lightseg.export import export, verify
>>> artifact = export(create_model("sinet"), to="tflite")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightseg.zoo import MODELS, SegmentationModel, create_model

__all__ = ["MODELS", "SegmentationModel", "create_model"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load the models only when they are asked for: ``import lightseg`` and ``--help`` must not wait for torch."""
    if name in __all__:
        from lightseg import zoo

        return getattr(zoo, name)
    raise AttributeError(f"module 'lightseg' has no attribute {name!r}")
