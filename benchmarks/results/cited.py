"""Other people's measurements on phones, with their source, for tables of their own beside no number of ours.

Nothing is predicted here: a prediction needs a fit to measured phones and its error, and there is neither.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Citation:
    """A latency that somebody else reports; ``read`` is when it was read, since such pages change."""

    network: str
    device: str
    how: str
    milliseconds: float
    source: str
    read: str
    kind: Literal["cited"] = "cited"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _qualcomm(network: str, page: str, device: str, milliseconds: float) -> Citation:
    source = f"Qualcomm AI Hub Models 0.65, huggingface.co/qualcomm/{page}"
    return Citation(network, device, "NPU, fp16", milliseconds, source, "2026-11")


SINET, SELFIE = ("SINet (clova)", "SINet"), ("MediaPipe Selfie", "MediaPipe-Selfie-Segmentation")
S24, S25 = "Samsung Galaxy S24", "Samsung Galaxy S25"
CITED = (
    _qualcomm(*SINET, S24, 1.22),
    _qualcomm(*SINET, S25, 0.93),
    _qualcomm(*SELFIE, S24, 0.40),
    _qualcomm(*SELFIE, S25, 0.35),
)
