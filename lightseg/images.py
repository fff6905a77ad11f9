"""Photographs in and PNGs out: the pixels before the network and after it. NumPy and Pillow only.

Pillow is imported where files are read, written or resized, so that the rest runs on a device without it.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from lightseg.errors import BadInput
from lightseg.files import atomic_path
from lightseg.spec import Preprocess

if TYPE_CHECKING:
    from PIL import Image

Photo = NDArray[np.uint8]
"""H×W×3, RGB."""
Size = tuple[int, int]
"""Height, width."""
Resampling = Literal["smooth", "point"]


def sample_photo() -> Path:
    """The portrait that travels with the package: 512×512, public domain."""
    return Path(__file__).parent / "samples" / "astronaut.jpg"


def read_photo(path: Path) -> Photo:
    """The picture as a viewer shows it: H×W×3 uint8 RGB.

    EXIF rotation is applied; CMYK, grey and palette pictures become RGB; 16-bit values are scaled to 8 bits;
    transparent pixels are laid on white; of several frames the first counts. An embedded colour profile is ignored,
    as it was when the networks were trained.

    Errors: `BadInput` for a file that is missing, no picture, damaged, or larger than Pillow's limit against
    decompression bombs (179 million pixels).
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # 108-megapixel phones exist
            with Image.open(path) as file:
                return _rgb(ImageOps.exif_transpose(file))
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise BadInput(f"cannot open {path} ({error.strerror}); check the path") from error
    except UnidentifiedImageError as error:
        raise BadInput(f"{path} is no picture that can be read; give a JPEG, PNG, WebP, TIFF or BMP file") from error
    except Image.DecompressionBombError as error:
        raise BadInput(f"{path} has more pixels than is safe to decode; shrink it first") from error
    except Exception as error:  # the decoders raise a dozen types on a damaged file
        raise BadInput(f"{path} is damaged and cannot be decoded ({error}); save or fetch it again") from error


def _rgb(image: Image.Image) -> Photo:
    from PIL import Image

    if image.mode.startswith("I;16") or image.mode == "I":
        return _grey16(image)
    if image.mode == "F":
        raise BadInput("a floating-point picture does not say what white is; save it with 8 or 16 bits per channel")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (255, 255, 255, 255)), layer)
    return np.array(image.convert("RGB"))


def _grey16(image: Image.Image) -> Photo:
    """65535 becomes 255; Pillow's own conversion would clip at 255 and show white."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise BadInput("a 32-bit picture does not say what white is; save it with 8 or 16 bits per channel")
    grey = ((values * 255 + 32767) // 65535).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def resize(photo: Photo, size: Size) -> Photo:
    """Bilinear with the filter widened when shrinking (no aliasing); the aspect ratio is not kept."""
    from PIL import Image

    return np.asarray(Image.fromarray(photo).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def bilinear(planes: NDArray[np.float32], size: Size, rows: slice = slice(None)) -> NDArray[np.float32]:
    """C×H×W at another size from the two nearest samples each way, pixel centres at halves, edges repeated.

    ``rows`` asks for a part of the result's rows, so that a large result can be worked on in strips.
    """
    (top, bottom, t), (left, right, s) = _taps(planes.shape[1], size[0]), _taps(planes.shape[2], size[1])
    top, bottom, t = top[rows], bottom[rows], t[rows][:, None]
    tall = planes[:, top] * (1 - t) + planes[:, bottom] * t
    return np.asarray(tall[:, :, left] * (1 - s) + tall[:, :, right] * s, np.float32)


def _taps(have: int, want: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Lower neighbour, upper neighbour and the upper one's weight for every output position."""
    centre = np.clip((np.arange(want) + 0.5) * have / want - 0.5, 0, have - 1)
    low = np.floor(centre).astype(np.intp)
    share: NDArray[np.float32] = (centre - low).astype(np.float32)
    return low, np.minimum(low + 1, have - 1), share


def to_input(
    photo: Photo, size: Size, preprocess: Preprocess, resampling: Resampling = "smooth"
) -> NDArray[np.float32]:
    """The network's input, 1×3×H×W: squeezed to ``size``, channels in ``preprocess.order``, (v − mean) / std.

    ``"smooth"`` resizes 8-bit pixels without aliasing: what an artifact with preprocessing baked in sees.
    ``"point"`` interpolates unrounded values between two neighbours each way, as the published evaluation of the
    portrait networks and of C3Net does; on EG1800 the two differ by less than 0.05 points of IoU.
    """
    if resampling == "smooth":
        planes = resize(photo, size).astype(np.float32).transpose(2, 0, 1)
    else:
        planes = bilinear(photo.astype(np.float32).transpose(2, 0, 1), size)
    return normalise(planes[None], preprocess)


def normalise(pixels: NDArray[np.float32], preprocess: Preprocess) -> NDArray[np.float32]:
    """N×3×H×W RGB values in 0…255 to what the weights were trained on."""
    ordered = pixels[:, ::-1] if preprocess.order == "BGR" else pixels
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (preprocess.mean, preprocess.std))
    return np.ascontiguousarray((ordered - mean) / std)


def write_png(path: Path, pixels: NDArray[np.uint8]) -> Path:
    """Write H×W (grey or class index), H×W×3 (RGB) or H×W×4 (RGBA) atomically. Errors: `OutputError`."""
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
    return path
