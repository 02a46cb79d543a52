"""Bytes become an upright RGB or grey picture, whatever the file's mode."""

import io
import threading

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from hybridvit.errors import DataError

MAX_PIXELS = 80_000_000
ORIENTATION = 0x0112  # the tag's number in EXIF
MODES = {1: "L", 3: "RGB"}
_OPENING = threading.Lock()


def decode(data: bytes, *, name: str, channels: int = 3, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode the first frame of a picture: turned as its EXIF says, transparency laid on white, 16 bits scaled to 8.

    Raises:
        DataError: `data` is no picture, is damaged, or has more than max_pixels by its header.
    """
    try:
        picture = _open(data)
        if picture.width * picture.height > max_pixels:
            raise DataError(
                f"{name} has {picture.width} x {picture.height} pixels, the limit is {max_pixels}: make it smaller, or "
                "raise the limit."
            )
        picture.load()
        if picture.getexif().get(ORIENTATION, 1) != 1:
            picture = ImageOps.exif_transpose(picture)
        return _to_mode(picture, MODES[channels])
    except DataError:
        raise
    except UnidentifiedImageError as error:  # its own text names an object in memory
        raise DataError(
            f"{name} cannot be read as a picture: it is of no known format. Repair or remove it."
        ) from error
    except Exception as error:  # Pillow's decoders raise nearly every type on damaged files
        raise DataError(f"{name} cannot be read as a picture: {error}. Repair or remove it.") from error


def _open(data: bytes) -> Image.Image:
    """The header alone, whatever size it tells: Pillow's own limit is global, fixed, and would speak before ours."""
    with _OPENING:
        kept, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(data))
        finally:
            Image.MAX_IMAGE_PIXELS = kept


def _to_mode(picture: Image.Image, mode: str) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = _to_8_bits(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture if picture.mode == mode else picture.convert(mode)


def _to_8_bits(picture: Image.Image) -> Image.Image:
    """Pillow's own conversion clips at 255. 16-bit files use the full range; wider ones are scaled by their largest."""
    values = np.asarray(picture, dtype=np.float64)
    top = 65535.0 if picture.mode.startswith("I;16") else max(255.0, float(values.max()))
    if picture.mode == "I" and top <= 65535.0 and top > 255.0:
        top = 65535.0  # Pillow opens some 16-bit PNGs as 32-bit integers
    return Image.fromarray(np.clip(values * (255.0 / top), 0, 255).round().astype(np.uint8), "L")
