"""Boxes, outlines and names on a picture, legible on small and large ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hybridvit.data.objects import Rle, decode

LEAST_SIDE = 512
"""Smaller pictures are enlarged in whole steps: names need room."""
SHADE = 0.4
COLOURS = (
    *("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324"),
    *("#800000", "#808000", "#000075", "#f032e6", "#469990", "#b8860b", "#2f4f4f"),
)
"""Dark enough for white letters. Classes take them in turn."""


def draw_boxes(
    picture: Image.Image,
    boxes_N4: Sequence[Sequence[float]],
    labels: Sequence[int],
    texts: Sequence[str],
    outlines: tuple[Rle, ...] | None = None,
) -> Image.Image:
    """The last is drawn first: put the most important one first. Boxes in the picture's pixels; the result may be larger."""
    picture = picture.convert("RGB")
    step = max(1, LEAST_SIDE // max(picture.size))
    size = (picture.height, picture.width)
    picture = picture.resize((picture.width * step, picture.height * step), Image.Resampling.NEAREST)
    if outlines:
        picture = _shaded(picture, decode(outlines, size).numpy(), labels, step)
    pen = ImageDraw.Draw(picture)
    letters = max(16, max(picture.size) // 45)
    line = max(3, letters // 6)
    font: Any = ImageFont.load_default(letters)
    for box, label, text in reversed(list(zip(boxes_N4, labels, texts, strict=True))):
        colour = COLOURS[int(label) % len(COLOURS)]
        left, top, right, bottom = (round(value * step) for value in box)
        pen.rectangle((left, top, max(right - 1, left), max(bottom - 1, top)), outline=colour, width=line)
        width = int(font.getlength(text)) + 2 * line
        x = max(0, min(left, picture.width - width))
        y = top - letters - 2 * line
        y = y if y >= 0 else min(bottom, picture.height - letters - 2 * line)
        pen.rectangle((x, y, x + width, y + letters + 2 * line), fill=colour)
        pen.text((x + line, y + line), text, fill="white", font=font)
    return picture


def _shaded(picture: Image.Image, masks_NHW: np.ndarray, labels: Sequence[int], step: int) -> Image.Image:
    pixels = np.asarray(picture).copy()
    for mask_HW, label in zip(masks_NHW[::-1], list(labels)[::-1], strict=True):
        colour = np.array([int(COLOURS[int(label) % len(COLOURS)][i : i + 2], 16) for i in (1, 3, 5)])
        inside = np.repeat(np.repeat(mask_HW > 0, step, axis=0), step, axis=1)
        pixels[inside] = ((1 - SHADE) * pixels[inside] + SHADE * colour).astype(np.uint8)
    return Image.fromarray(pixels)
