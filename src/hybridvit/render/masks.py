"""Masks as people and programs look at them: overlays with a legend, differences, palette PNGs, runs.

Arrays: H rows, W columns.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hybridvit.data.masks import Colour, colour_map

OPACITY = 0.55
MIN_WIDTH = 240
"""Of a drawn picture, in pixels: narrower ones are enlarged, so that the legend can be read."""
LEGEND = 12
"""Most classes that a legend names."""
GAP = 8
RIGHT, WRONG, UNLABELLED = (90, 160, 90), (215, 40, 40), (128, 128, 128)


def overlay(
    picture: Image.Image, mask_HW: np.ndarray, class_names: Sequence[str], colours: Sequence[Colour] = ()
) -> Image.Image:
    """The picture under the colours of its classes, outlined, and below it which colour is which class, largest first.

    A class that is drawn black, as backgrounds are, leaves the picture as it is; so do pixels of no class.
    """
    colours = colours or colour_map(len(class_names))
    table = np.zeros((max(int(mask_HW.max(initial=0)), len(colours)) + 1, 3), dtype=np.float64)
    table[: len(colours)] = colours
    paint_HW3 = table[mask_HW]
    pixels_HW3 = np.asarray(picture.convert("RGB"), dtype=np.float64)
    painted_HW1 = paint_HW3.any(axis=2, keepdims=True)
    mixed_HW3 = np.where(painted_HW1, (1 - OPACITY) * pixels_HW3 + OPACITY * paint_HW3, pixels_HW3)
    outline_HW = np.zeros(mask_HW.shape, dtype=bool)
    outline_HW[1:] |= mask_HW[1:] != mask_HW[:-1]
    outline_HW[:, 1:] |= mask_HW[:, 1:] != mask_HW[:, :-1]
    if min(mask_HW.shape) >= MIN_WIDTH:  # on smaller pictures it would hide what it surrounds
        mixed_HW3[outline_HW] = 255
    counts = np.bincount(mask_HW.reshape(-1), minlength=len(class_names))[: len(class_names)]
    present = [int(k) for k in np.argsort(-counts, kind="stable") if counts[k]]
    entries = [(f"{class_names[k]} ({100 * counts[k] / mask_HW.size:.0f} %)", colours[k]) for k in present[:LEGEND]]
    if len(present) > LEGEND:
        entries.append((f"and {len(present) - LEGEND} more", (255, 255, 255)))
    return with_legend(Image.fromarray(mixed_HW3.round().astype(np.uint8)), entries)


def sheet(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Pictures in rows and columns."""
    widths = [max(cell.width for cell in column) for column in zip(*rows, strict=True)]
    heights = [max(cell.height for cell in row) for row in rows]
    whole = Image.new("RGB", (sum(widths) + GAP * (len(widths) - 1), sum(heights) + GAP * (len(rows) - 1)), "white")
    for number, row in enumerate(rows):
        for k, cell in enumerate(row):
            whole.paste(cell, (sum(widths[:k]) + k * GAP, sum(heights[:number]) + number * GAP))
    return whole


def difference(said_HW: np.ndarray, truth_HW: np.ndarray, *, ignore: int) -> Image.Image:
    """Which pixels are right, which wrong, which of no class."""
    pixels_HW3 = np.where((said_HW == truth_HW)[..., None], RIGHT, WRONG)
    pixels_HW3[truth_HW == ignore] = UNLABELLED
    entries = [("right", RIGHT), ("wrong", WRONG)] + ([("no class", UNLABELLED)] if (truth_HW == ignore).any() else [])
    return with_legend(Image.fromarray(pixels_HW3.astype(np.uint8)), entries)


def runs(mask_HW: np.ndarray) -> list[int]:
    """Lengths of the runs of 0, 1, 0, ... down the columns, as COCO counts them uncompressed."""
    flat = np.concatenate(([0], mask_HW.astype(np.int8).reshape(-1, order="F")))
    ends = np.flatnonzero(np.diff(flat)).tolist()
    return np.diff([0, *ends, mask_HW.size]).tolist()


def with_legend(picture: Image.Image, entries: Sequence[tuple[str, Colour]]) -> Image.Image:
    """The picture, enlarged where it is small, and rows of swatches with words below it."""
    if picture.width < MIN_WIDTH:
        times = -(-MIN_WIDTH // picture.width)
        picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    size = min(max(picture.width // 30, 12), 32)
    font = ImageFont.load_default(size)
    rows: list[list[tuple[str, Colour, int]]] = [[]]
    at = size
    for words, colour in entries:
        wide = round(2.2 * size + font.getlength(words))
        if rows[-1] and at + wide > picture.width:
            rows.append([])
            at = size
        rows[-1].append((words, colour, at))
        at += wide
    whole = Image.new("RGB", (picture.width, picture.height + round(1.6 * size * len(rows) + 0.6 * size)), "white")
    whole.paste(picture)
    pen = ImageDraw.Draw(whole)
    for number, row in enumerate(rows):
        middle = picture.height + round(1.6 * size * (number + 0.5) + 0.3 * size)
        for words, colour, left in row:
            box = (left, middle - size // 2, left + size, middle + size // 2)
            pen.rectangle(box, fill=tuple(colour), outline="black")
            pen.text((left + round(1.3 * size), middle), words, fill="black", font=font, anchor="lm")
    return whole
