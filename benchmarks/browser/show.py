"""The demonstration page: which files it offers, and the server that stays until it is stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightseg.benchmarks.browser import runtimes
from lightseg.benchmarks.browser.contract import Contract
from lightseg.benchmarks.browser.server import Server, Site
from lightseg.benchmarks.browser.site import PAGE, site_of
from lightseg.errors import BadInput, Unsupported


def offer(path: Path, number: int) -> dict[str, Any]:
    """What the page has to know of an artifact. Errors: `BadInput` and `Unsupported` for one it cannot show."""
    from lightseg.export.record import read_artifact
    from lightseg.predict import FOREGROUND

    artifact = read_artifact(path)
    runtime = next((one for one in runtimes.RUNTIMES if one.target == artifact.target), None)
    if runtime is None:
        raise BadInput(f"{path.name} is {artifact.target}, which runs in no browser; export with --to onnx,tflite")
    if artifact.output != "logits":
        raise Unsupported(
            f"{path.name} returns a {artifact.output}, which cannot be enlarged to the photo smoothly; "
            "export it with --output logits"
        )
    names = list(artifact.labels.names)
    precision = "" if artifact.precision == "fp32" else f" {artifact.precision}"
    return {
        "network": f"{artifact.model}-{artifact.tag}{precision}{' baked' if artifact.baked else ''}",
        "runtime": runtime.name,
        "version": runtime.version,
        "file": path.name,
        "bytes": path.stat().st_size,
        "url": f"/artifacts/{number}",
        "contract": Contract.of(artifact.layout).to_page(artifact.input_shape, artifact.feeds.to_dict(), len(names)),
        "names": names,
        "colours": [list(colour) for colour in artifact.labels.colours],
        "foreground": [i for i, name in enumerate(names) if name in FOREGROUND],
        "weights": artifact.weights.get("tag", artifact.tag),
    }


def demo_site(folder: Path, artifacts: Sequence[Path], photo: Path) -> Site:
    """Everything the page needs. Errors: as `offer` and `runtimes.require`."""
    runtimes.require(folder)
    offers = [offer(path, number) for number, path in enumerate(artifacts)]
    site = site_of(folder)
    site.files |= {f"/artifacts/{number}": path for number, path in enumerate(artifacts)}
    site.files |= {"/": PAGE / "index.html", "/sample": photo}
    listing = json.dumps({"artifacts": offers}).encode()
    site.computed["/artifacts.json"] = lambda: listing
    return site


def serve(site: Site, port: int, announce: Callable[[str], None], wait: Callable[[], None]) -> None:
    """Until ``wait`` returns or is interrupted. Errors: `BadInput` for a port that is taken."""
    try:
        server = Server(site, port)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(
            f"port {port} cannot be used ({reason}); choose another --port, or 0 for any free one"
        ) from error
    with server:
        announce(f"http://127.0.0.1:{server.port}/")
        try:
            wait()
        except KeyboardInterrupt:
            return
