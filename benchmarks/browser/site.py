"""The files every page of ours is made of."""

from __future__ import annotations

from pathlib import Path

from lightseg.benchmarks.browser.runtimes import RUNTIMES
from lightseg.benchmarks.browser.server import Site

PAGE = Path(__file__).parent / "page"


def site_of(runtimes: Path) -> Site:
    """The page and the runtimes, as every page of ours needs them."""
    folders = {f"/runtimes/{_short(p.name)}/": runtimes / p.folder_name for one in RUNTIMES for p in one.packages}
    return Site(files={**folders, "/page/": PAGE})


def _short(name: str) -> str:
    return name.lstrip("@").replace("/", "-")
