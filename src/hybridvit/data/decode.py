"""Bytes become an upright RGB or grey picture, whatever the file's mode."""

import io
import struct
import zlib
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from hybridvit.errors import DataError

MAX_PIXELS = 80_000_000
MAX_RATIO = 100
"""Of the longer side to the shorter: a model's input has both alike, and resizing makes as many times its pixels before it
crops: 20 MB of RGB at 224 x 224. Measured in 2026-11, a picture of 8,900 x 89 to predict or train on takes 37 MiB, and 61 in
`serve`; one of 89,000 x 890, the limit of both rules, 416."""
ORIENTATION = 0x0112  # the tag's number in EXIF
WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I"}  # of EXIF's types
MAX_SAMPLE_VALUE, BITS_PER_SAMPLE = 281, 258  # in TIFF
WIDE_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
MODES = {1: "L", 3: "RGB"}
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
FORMATS: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "AVIF": (".avif", ".avifs"),
    "QOI": (".qoi",),
    "DDS": (".dds",),
    "DIB": (".dib",),
    "ICO": (".ico",),
    "PCX": (".pcx",),
    "PSD": (".psd",),
    "SGI": (".sgi", ".rgb", ".rgba", ".bw"),
    "SUN": (".ras",),
    "TGA": (".tga", ".icb", ".vda", ".vst"),
}
"""What is decoded, by Pillow's names: pixels only. EPS would start another program; others are rare, or no pictures."""
FOREIGN_ENDINGS = frozenset(
    {".heic", ".heif", ".hif", ".avif", ".avifs", ".jxl", ".svg", ".eps", ".ai", ".pdf", ".wmf", ".emf", ".exr", ".hdr"}
    | {".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".raw", ".dcm", ".fits", ".xcf", ".npy"}
    | {".mp4", ".mov", ".avi", ".mkv"}
)
"""Pictures and films that are not decoded here: more than other files, they are missed."""
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")


@cache
def endings() -> frozenset[str]:
    """Of the files that are taken for pictures, in small letters: .jpg and so on."""
    readable = (name for name in FORMATS if name != "AVIF" or features.check("avif"))
    return frozenset(ending for name in readable for ending in FORMATS[name])


def decode(data: bytes | Image.Image, *, name: str, channels: int = 3, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode the first frame of a picture: turned as its EXIF says, transparency laid on white, 16 bits scaled to 8.

    Metadata is no reason to refuse: what cannot be read of it is as if it were not there.

    Raises:
        DataError: `data` is no picture, is damaged, has more than max_pixels by its header, is more than MAX_RATIO times as long
            as wide, or holds values whose range is in doubt (see _to_8_bits).
    """
    try:
        if isinstance(data, Image.Image):
            return _finished(data, name, channels, max_pixels)
        try:
            return _finished(_open(data), name, channels, max_pixels)
        except DataError:
            raise
        except Exception:  # of a PNG, what lies around the pixels may be what is wrong
            bare = _without_texts(data)
            if bare == data:
                raise
            return _finished(_open(bare), name, channels, max_pixels)
    except DataError:
        raise
    except UnidentifiedImageError as error:  # its own text names an object in memory
        raise DataError(
            f"{name} cannot be read as a picture: it is of no format that is read here (JPEG, PNG, WebP, GIF, TIFF ...). "
            "Convert, repair or remove it."
        ) from error
    except Exception as error:  # Pillow's decoders raise nearly every type on damaged files
        raise DataError(f"{name} cannot be read as a picture: {error}. Repair or remove it.") from error


def measure(data: bytes | Image.Image, *, name: str) -> tuple[tuple[int, int], int]:
    """Rows and columns as stored, and the EXIF orientation, from 1 to 8. The header alone is read.

    Raises: DataError when `data` is no picture.
    """
    try:
        picture = data if isinstance(data, Image.Image) else _open(data)
        return (picture.height, picture.width), _orientation(picture)
    except Exception as error:  # as in decode
        raise DataError(f"{name} cannot be read as a picture: {error}. Repair or remove it.") from error


def _open(data: bytes) -> Image.Image:
    """The header alone, whatever size it tells.

    As Image.open does it, for our formats, without its limit of pixels: that one is global, fixed, and would speak before ours.
    """
    Image.init()
    stream = io.BytesIO(data)
    for name in FORMATS:
        factory, accepts = Image.OPEN.get(name, (None, None))
        if factory is None or (accepts is not None and accepts(data[:16]) is not True):
            continue
        stream.seek(0)
        try:
            return factory(stream, "")
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue  # as Pillow has it: of another format after all
    raise UnidentifiedImageError


def _finished(picture: Image.Image, name: str, channels: int, max_pixels: int) -> Image.Image:
    width, height = picture.size
    if width * height > max_pixels:
        raise DataError(
            f"{name} has {width} x {height} pixels, the limit is {max_pixels}. Make it smaller. The limit can be raised in "
            "training (data.max_pixels in the recipe), in a server (--max-megapixels), and in Python (max_pixels of "
            "hybridvit.Predictor), not in other commands."
        )
    if max(width, height) > MAX_RATIO * min(width, height):
        raise DataError(
            f"{name} has {width} x {height} pixels: one side is more than {MAX_RATIO} times the other. Cut it into pieces, or "
            "remove it."
        )
    top, sure = _largest_value(picture)
    picture.load()
    turn = TURNS.get(_orientation(picture))
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = _to_8_bits(picture, top, sure, name)
    elif top:
        _check_upper_bytes(picture, name)
    if turn is not None:
        picture = picture.transpose(turn)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    mode = MODES[channels]
    return picture if picture.mode == mode else picture.convert(mode)


def _orientation(picture: Image.Image) -> int:
    """From 1 to 8; 1 where EXIF says nothing that makes sense. After loading: of a TIFF, Pillow has turned the pixels then."""
    try:
        return _orientation_of(picture.info.get("exif", b"")) or int(_number(picture.getexif().get(ORIENTATION)))
    except Exception:  # whatever a camera wrote there, the pixels are good
        return 1


def _orientation_of(exif: bytes) -> int:
    """The one entry, whatever stands in the others, by which Pillow may stumble; 0 where it is missing or no whole number."""
    data = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 10:
        return 0
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    for at in range(start + 2, len(data) - 11, 12)[: struct.unpack_from(f"{order}H", data, start)[0]]:
        tag, kind = struct.unpack_from(f"{order}HH", data, at)
        if tag == ORIENTATION and kind in WHOLE_NUMBERS:
            return struct.unpack_from(order + WHOLE_NUMBERS[kind], data, at + 8)[0]
    return 0


def _largest_value(picture: Image.Image) -> tuple[float | None, bool]:
    """The value of white where a file has more than 8 bits, and whether the file tells it; before loading."""
    codings = [(tile[0], str(tile[3])) for tile in getattr(picture, "tile", ())]
    if picture.mode in WIDE_MODES:
        tags: Any = getattr(picture, "tag_v2", {})
        told, bits = _number(tags.get(MAX_SAMPLE_VALUE)), _number(tags.get(BITS_PER_SAMPLE))
        if told > 0 or 8 < bits < 16:
            return told if told > 0 else 2**bits - 1, True
        if any(codec.startswith("ppm") and "65535" not in args for codec, args in codings):
            return 65535.0, True  # Pillow scales by the largest value of the header
    has_16_bits = picture.mode.startswith("I;16") or any(";16" in args or "65535" in args for _, args in codings)
    return (65535.0 if has_16_bits else None), False


def _number(tag: Any) -> float:
    """A tag's value, or the first of several; 0 where it is missing or no number."""
    try:
        return float(tag[0] if isinstance(tag, tuple) else tag)
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return 0.0


def _to_8_bits(picture: Image.Image, top: float | None, sure: bool, name: str) -> Image.Image:
    """Scale grey values from 0 to `top` to 0 to 255. Pillow's own conversion clips at 255.

    Where the file does not tell the top, it is 65535 for 16 bits; else the smallest of 1 (of floating point numbers only), 255
    and 65535 that no value exceeds. Then a picture of which no value reaches a quarter of the top is refused: it may be of 12
    bits in 16, or of another scale, and would be taken for a nearly black one.
    """
    values = np.asarray(picture, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    tops = [1.0, 255.0, 65535.0] if picture.mode == "F" else [255.0, 65535.0]
    least = tops[0] if top is None else 0.0
    if top is None:
        top = next((each for each in tops if high <= each), None)
    in_doubt = not sure and top is not None and top != least and 0 < high < top / 4
    if top is None or in_doubt or not (0 <= low <= high <= top):  # also not a number
        raise _unclear(name, f"{low:g} to {high:g}", "0 to 1" if picture.mode == "F" else "0 to 65535")
    return Image.fromarray((values * (255.0 / top)).round().astype(np.uint8))


def _check_upper_bytes(picture: Image.Image, name: str) -> None:
    """Of 16 bits of colour Pillow keeps the upper 8; the rule is that of _to_8_bits."""
    extrema: Any = picture.getextrema()
    colours = extrema[:-1] if picture.mode.endswith("A") else extrema
    high = max(high for _, high in colours)
    if 0 < high < 64:
        raise _unclear(name, f"0 to about {256 * (high + 1)}", "0 to 65535")


def _unclear(name: str, found: str, expected: str) -> DataError:
    return DataError(
        f"{name} holds values from {found}, and does not say which of them is white. Scale them to {expected}, or to 8 bits; or "
        "write the largest possible value into a TIFF's MaxSampleValue."
    )


def _without_texts(data: bytes) -> bytes:
    """A PNG without texts and colour profile, and without what else may be left out if its checksum is wrong."""
    if not data.startswith(PNG_SIGNATURE):
        return data
    kept, at = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        chunk = data[at : at + 12 + length]
        needed = kind[:1].isupper()
        if kind not in PNG_TEXTS and (needed or zlib.crc32(chunk[4:-4]).to_bytes(4, "big") == chunk[-4:]):
            kept.append(chunk)
        at += 12 + length
    return b"".join(kept)
