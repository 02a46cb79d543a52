"""Masks: pictures whose values are numbers of classes, read exactly, and refused where they say something else.

A mask is a palette PNG, or a grey picture of 8 or 16 bits (PNG, TIFF, BMP, PGM), as large as its picture. The value 255 (with
more than 255 classes: 65535) is no class: nothing is learnt from such pixels, and nothing is evaluated on them.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from hybridvit.data.decode import MAX_PIXELS, ORIENTATION
from hybridvit.errors import DataError

FORMATS = ("PNG", "TIFF", "BMP", "PPM", "GIF", "JPEG", "WEBP", "JPEG2000")
LOSSY = ("JPEG", "MPO", "WEBP", "JPEG2000")
VALUED = ("P", "L", "1", "I", "I;16", "I;16B", "I;16L")
"""Modes of Pillow whose values are kept as they are."""
IGNORE, IGNORE_16_BIT = 255, 65535
PNG_DEPTH = slice(24, 26)
"""Where a PNG says its bits per value and its kind of colour."""

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Classes:
    """What the values of a data set's masks mean."""

    names: tuple[str, ...]
    colours: tuple[Colour, ...]
    reduce_zero_label: bool = False
    """0 in the files is no class, k is class k - 1, and what is ignored stays so. Done once, as a mask is read."""

    @property
    def ignore(self) -> int:
        return ignore_value(len(self.names))


def ignore_value(num_classes: int) -> int:
    """The value that stands for no class among so many classes."""
    return IGNORE if num_classes <= IGNORE else IGNORE_16_BIT


def ignored_in(numbers: torch.Tensor) -> int:
    """The same, of numbers of classes as to_classes stores them."""
    return IGNORE if numbers.dtype == torch.uint8 else IGNORE_16_BIT


def read_values(data: bytes, *, name: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The values that the file holds. Shape: (H, W), uint8, uint16 or int32.

    Raises: DataError where it is no picture, is damaged or too large, is lossy, or holds colours.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            if picture.width * picture.height > max_pixels:
                raise DataError(
                    f"{name} has {picture.width} x {picture.height} pixels, the limit is {max_pixels}. Make it smaller."
                )
            values = np.asarray(picture)
            form, mode = str(picture.format), picture.mode
    except DataError:
        raise
    except UnidentifiedImageError as error:  # its own text names an object in memory
        raise DataError(f"{name} cannot be read as a mask: it is of no known format.") from error
    except Exception as error:  # Pillow's decoders raise nearly every type on damaged files
        raise DataError(f"{name} cannot be read as a mask: {error}. Repair or remove it.") from error
    if form in LOSSY:
        raise DataError(
            f"{name} is a {form}: compression has changed its values (found {some_values(values)}). "
            "Write masks as PNG, from the original; converting this file does not bring them back."
        )
    if mode not in VALUED:
        raise DataError(
            f"{name} holds colours (mode {mode}), where each pixel should hold the number of its class. "
            f"Found {_some_colours(values)}. Write each colour as its number, in a palette or grey PNG."
        )
    if mode == "1":
        return values.astype(np.uint8)
    return values // _stretch(data) if mode == "L" else values


def to_classes(values_HW: np.ndarray, classes: Classes, *, name: str) -> np.ndarray:
    """Values of a file to numbers of classes, by the data set's rule. Shape: (H, W) -> same, uint8 or int32.

    Raises: DataError with the values that are no class.
    """
    found = present(values_HW)
    first = int(classes.reduce_zero_label)
    last = first + len(classes.names) - 1
    odd = [value for value in found if not (0 <= value <= last or value == classes.ignore)]
    if odd:
        raise DataError(
            f"{name} holds {_list(odd)}, but there are {len(classes.names)} classes: {first} to {last}, "
            f"{'0 and ' if first else ''}{classes.ignore} to be ignored.{_advice(found, classes)}"
        )
    numbers_HW = values_HW.astype(np.uint8 if classes.ignore == IGNORE else np.int32)
    if classes.reduce_zero_label:
        numbers_HW = np.where(numbers_HW == classes.ignore, classes.ignore, numbers_HW - 1).astype(numbers_HW.dtype)
        numbers_HW[values_HW == 0] = classes.ignore
    return numbers_HW


def check_pair(picture: Path, mask: Path, values_HW: np.ndarray) -> None:
    """Whether the mask lies on its picture pixel by pixel; only the picture's header is read.

    Raises: DataError for another size, and for a picture to be turned by its EXIF tag when the mask does not show that it is
        turned already; OSError.
    """
    try:
        with Image.open(picture) as header:
            width, height = header.size
            turn = header.getexif().get(ORIENTATION, 1)
    except UnidentifiedImageError as error:
        raise DataError(f"{picture} cannot be read as a picture: it is of no known format.") from error
    upright = (width, height) if turn in (1, 2, 3, 4) else (height, width)
    size = (values_HW.shape[1], values_HW.shape[0])
    if size == upright and (turn == 1 or upright != (width, height)):
        return
    if size in (upright, (width, height)):
        raise DataError(
            f"{picture} is to be turned by its EXIF tag (orientation {turn}), and {mask} ({size[0]} x {size[1]}) does not "
            "show whether it was drawn before or after. Save the picture upright, without the tag, and see that the mask fits."
        )
    raise DataError(
        f"{mask} has {size[0]} x {size[1]} pixels, its picture {picture.name} {upright[0]} x {upright[1]}. "
        "Write the mask at the picture's size; resize masks by nearest neighbour only."
    )


def colour_map(count: int) -> tuple[Colour, ...]:
    """Pascal VOC's colours: the bits of the class's number, dealt to red, green and blue from the highest down."""
    return tuple(
        tuple(sum((number >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8)) for channel in range(3))  # type: ignore[misc]
        for number in range(count)
    )


def palette_picture(mask_HW: np.ndarray, colours: Sequence[Colour]) -> Image.Image:
    """A picture whose values are the numbers of classes, and which viewers show in their colours. Saved as PNG, it stays so.

    With more than 256 classes: 16 bits, without colours.
    """
    if len(colours) > 256:
        return Image.fromarray(mask_HW.astype(np.uint16))
    picture = Image.frombytes("P", (mask_HW.shape[1], mask_HW.shape[0]), mask_HW.astype(np.uint8).tobytes())
    picture.putpalette([channel for colour in colours for channel in colour])
    return picture


def present(values: np.ndarray) -> list[int]:
    """The values that occur, in order."""
    if values.dtype == np.uint8:
        return np.flatnonzero(np.bincount(values.reshape(-1), minlength=256)).tolist()
    return np.unique(values).tolist()


def some_values(values: np.ndarray) -> str:
    return _list(present(values))


def diagnosis(found: Sequence[int], classes: Classes) -> str:
    """What a whole data set's values show to be wrong with it; "" where nothing does.

    found: the values in its files, in order, before the data set's rule.
    """
    count, plain = len(classes.names), [value for value in found if value != classes.ignore]
    if set(found) <= {0, IGNORE} and IGNORE in found and count > 1:
        return (
            f"the masks hold only {_list(found)}: 255 means no class, so that nothing but class 0 would be learnt. "
            "Write the classes as 0 and 1."
        )
    if classes.reduce_zero_label and plain and 0 in plain and count not in plain and classes.ignore in found:
        return (
            f"the masks hold 0, {classes.ignore} and nothing above {max(plain)}: the zero label has been reduced in the files "
            "already. Set reduce_zero_label: false in masks.yaml, or class 0 would be lost."
        )
    if not classes.reduce_zero_label and plain and plain[0] > 0 and plain[-1] == count:
        return (
            f"the masks count from {plain[0]} to {plain[-1]}, and the {count} classes from 0 to {count - 1}: all are off by "
            "one. Set reduce_zero_label: true in masks.yaml."
        )
    return ""


def _advice(found: Sequence[int], classes: Classes) -> str:
    if set(found) <= {0, IGNORE, IGNORE_16_BIT}:
        return f" Masks of two classes hold 0 and 1, not 0 and {max(found)}."
    if not classes.reduce_zero_label and max(v for v in found if v != classes.ignore) == len(classes.names):
        return " If the masks count their classes from 1, set reduce_zero_label: true in masks.yaml."
    return " Name all classes, in order, in classes.txt, or correct the masks."


def _stretch(data: bytes) -> int:
    """What Pillow multiplies the values of a grey PNG of 2 or 4 bits with."""
    depth, colour = data[PNG_DEPTH] if data.startswith(b"\x89PNG") else (8, 0)
    return {2: 85, 4: 17}.get(depth, 1) if colour == 0 else 1


def _some_colours(values: np.ndarray) -> str:
    colours = np.unique(values.reshape(-1, *values.shape[2:]), axis=0)
    shown = ", ".join(str(tuple(np.atleast_1d(colour).tolist())) for colour in colours[:5])
    return f"{shown}{f' and {len(colours) - 5} more' if len(colours) > 5 else ''}"


def _list(values: Sequence[int], most: int = 8) -> str:
    shown = ", ".join(map(str, values[:most]))
    return f"{'values' if len(values) > 1 else 'value'} {shown}" + (
        f" and {len(values) - most} more" if len(values) > most else ""
    )
