"""Every error lightseg raises on purpose.

LightsegError                 one line for the user; command lines exit 1
├── UnknownName               a model, target, precision, key that does not exist (suggests the nearest)
├── BadInput                  a file, image, size or value that cannot be used
│   └── WeightsError          a weights file that is missing, corrupt, foreign or of another model
├── Unsupported               a combination that exists but cannot be done, here or at all
│   └── MissingExtra          a package of an optional extra is not installed
├── ParityError               an artifact disagrees with PyTorch beyond the tolerance
└── OutputError               a result could not be written; what was there before is untouched
"""

from __future__ import annotations

from collections.abc import Iterable


class LightsegError(Exception):
    """What failed, why, and what to type next, in one line."""


class UnknownName(LightsegError):
    """A name that is in no table; the message holds the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        import difflib

        known = sorted(known)
        folded = {k.lower(): k for k in known}
        near = [folded[k] for k in difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.5)]
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose from: {', '.join(known)}"
        super().__init__(f"unknown {kind} {name!r}; {hint}")
        self.kind, self.name, self.nearest = kind, name, near


class BadInput(LightsegError):
    """Something the user gave cannot be used."""


class WeightsError(BadInput):
    """A weights file is missing, corrupt, foreign or belongs to another model."""


class Unsupported(LightsegError):
    """A known combination that cannot be done; the reason says why."""


class MissingExtra(Unsupported):
    """A package of an optional extra is not installed."""

    def __init__(self, what: str, extra: str, package: str) -> None:
        super().__init__(f"{what} needs the package {package!r}; install it with: pip install 'lightseg[{extra}]'")
        self.extra = extra


class ParityError(LightsegError):
    """An artifact disagrees with PyTorch beyond the tolerance."""

    diff = ""
    """All figures beside their limits, in several lines, where there is more to say than the message."""


class OutputError(LightsegError):
    """A result could not be written; what was there before is untouched."""
