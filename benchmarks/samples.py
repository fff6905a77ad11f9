"""What every row makes of one photograph, as small pictures that travel inside a result: people look before they read.

``python -m lightseg.benchmarks.samples`` is the process that makes them, so that a runtime's crash costs its own
picture and nothing else.
"""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightseg.benchmarks.timing.child import Handler, claim_stdout, serve
from lightseg.benchmarks.timing.process import Child, Failed
from lightseg.benchmarks.timing.subject import Subject

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lightseg.images import Photo

COMMAND = (sys.executable, "-m", "lightseg.benchmarks.samples")
WIDTH = 220
"""Of a picture, in pixels."""
QUALITY = 80
PAPER = (226, 230, 236)
"""What stands behind a cut-out."""


def samples_of(
    subjects: Iterable[Subject],
    images: str | None,
    announce: Callable[[str], None],
    child: Callable[..., Child] = Child,
) -> dict[str, Any]:
    """``photo`` as a data URI, and ``rows`` with ``network``, ``runtime`` and the ``mask`` and ``cutout`` of each.

    A row whose output cannot be read as a mask has a ``reason`` in their place. Of several sizes or threads one is
    shown.
    """
    shown: dict[tuple[str, str], Subject] = {}
    for subject in subjects:
        shown.setdefault((subject.label, subject.runtime + subject.precision), subject)
    rows, photo = [], ""
    for subject in shown.values():
        announce(f"masks of {subject.name}")
        try:
            with child(1, COMMAND) as process:
                made = process.ask("pictures", subject=subject.to_dict(), images=images)
            photo = made.pop("photo")
        except Failed as error:
            made = {"reason": str(error)}
        rows.append({"network": subject.label, "runtime": subject.runtime, "precision": subject.precision, **made})
    return {"photo": photo, "rows": rows}


class Pictures:
    """The process's one answer."""

    @property
    def requests(self) -> dict[str, Handler]:
        return {"pictures": self.pictures}

    def pictures(self, request: dict[str, Any]) -> dict[str, Any]:
        return pictures(Subject.from_dict(request["subject"]), request["images"])


def pictures(subject: Subject, images: str | None) -> dict[str, Any]:
    """Photo, mask and cut-out of ``subject``. Errors: `Unsupported` where the output is no map of logits or chances."""
    import numpy as np

    from lightseg.benchmarks.peers import as_logits
    from lightseg.benchmarks.timing.opening import opener
    from lightseg.errors import Unsupported
    from lightseg.predict import cutout_image, overlay_image, predict_photo
    from lightseg.spec import RAW, Labels, Preprocess

    if subject.labels is None or subject.output not in ("logits", "probability") or subject.shape[0] != 1:
        raise Unsupported(f"the output of {subject.name} is not shown: its meaning is not known, or no map of logits")
    photo = thumbnail(images)
    preprocess = RAW if subject.preprocess is None else Preprocess.from_dict(subject.preprocess)
    labels, runner = Labels.from_dict(subject.labels), opener(subject, 1)()
    run = as_logits(runner) if subject.output == "probability" else runner
    found = predict_photo(run, photo, (subject.shape[2], subject.shape[3]), preprocess, labels)
    cut = cutout_image(found, photo)
    opacity = cut[:, :, 3:].astype(np.float32) / 255
    pasted = np.rint(cut[:, :, :3] * opacity + np.array(PAPER) * (1 - opacity)).astype(np.uint8)
    mask = np.array(labels.colours, np.uint8)[found.mask] if len(labels.names) > 2 else _grey(found.alpha)
    pair = {"mask": uri(mask), "cutout": uri(pasted), "overlay": uri(overlay_image(found, photo, labels))}
    return {"photo": uri(photo), **pair}


def thumbnail(images: str | None) -> Photo:
    """The first photograph of the folder, or the packaged portrait, at most `WIDTH` wide."""
    from lightseg.images import read_photo, resize, sample_photo

    folder = sorted(Path(images).glob("*")) if images else []
    found = [path for path in folder if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")]
    photo = read_photo(found[0] if found else sample_photo())
    height, width = photo.shape[:2]
    return resize(photo, (round(height * WIDTH / width), WIDTH)) if width > WIDTH else photo


def _grey(alpha: NDArray[np.float32]) -> NDArray[np.uint8]:
    import numpy as np

    return np.dstack([np.rint(alpha * 255).astype(np.uint8)] * 3)


def uri(pixels: NDArray[np.uint8]) -> str:
    """A picture as the address of itself."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


if __name__ == "__main__":
    serve(sys.stdin, claim_stdout(), Pictures())
