"""Large pictures through a detector in tiles, so that small objects keep their pixels.

Arrays: N detections of all tiles of a picture.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from hybridvit.data.decode import decode
from hybridvit.data.objects import decode as decode_masks
from hybridvit.data.objects import encode
from hybridvit.errors import ConfigError, DataError
from hybridvit.evaluation.detection import Detections
from hybridvit.inference.pictures import Pictures, open_pictures
from hybridvit.inference.predictor import Predictor
from hybridvit.inference.rows import Predictions, Row

AT_BORDER = 2.0
"""Pixels: a box that comes so near to a border within the picture was cut there."""
SAME = 0.5
"""Share of the smaller box: two that have more in common are one object."""


class Tiles:
    """Cuts pictures into squares of `side` pixels, each of which shares at least `overlap` of its side with the next.

    Raises: ConfigError for a model of another task, and for sizes that make no sense.
    """

    def __init__(self, predictor: Predictor, *, side: int, overlap: float = 0.2) -> None:
        if predictor.task.name != "detection":
            raise ConfigError(f"Tiles are for detectors; this model is made for {predictor.task.name}.")
        if side < 32 or not 0 <= overlap < 0.9:
            raise ConfigError(
                f"A tile has 32 pixels at least, and an overlap of 0 to 0.9; found {side} and {overlap:g}."
            )
        self.predictor, self.side, self.overlap = predictor, side, overlap

    def predict(
        self,
        pictures: Pictures,
        *,
        root: Path | None = None,
        on_picture: Callable[[int, int], None] = lambda done, total: None,
    ) -> Predictions:
        """A row for each picture, as `hybridvit.predict` has it."""
        predictor, source = self.predictor, open_pictures(pictures, root=root)
        rows = []
        for index in range(len(source)):
            name = source.name(index)
            try:
                picture = decode(
                    source.read(index),
                    name=name,
                    channels=predictor.preprocess.in_chans,
                    max_pixels=predictor.max_pixels,
                )
            except (DataError, OSError) as error:
                rows.append(Row(path=name, error=str(error)))
            else:
                said = predictor.task.row(self.said(picture), predictor.class_names, top_k=predictor.top_k)
                rows.append(Row(path=name, said=said))
            on_picture(index + 1, len(source))
        return Predictions(rows)

    def said(self, picture: Image.Image) -> Detections:
        """What is found on the picture, in its own pixels."""
        found = []
        for left, top, right, bottom in self._places(picture.size):
            image, frame = self.predictor.transform(picture.crop((left, top, right, bottom)))
            (said,) = self.predictor.said(self.predictor.task.collate([image], empty=torch.empty), [frame])
            found.append((said, (left, top, right, bottom)))
        return _merged(found, (picture.height, picture.width))

    def _places(self, size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
        columns, rows = (self._starts(length) for length in size)
        for top in rows:
            for left in columns:
                yield left, top, min(left + self.side, size[0]), min(top + self.side, size[1])

    def _starts(self, length: int) -> list[int]:
        """Evenly spaced, the first at 0, the last at the end."""
        if length <= self.side:
            return [0]
        step = self.side * (1 - self.overlap)
        count = 1 + int(np.ceil((length - self.side) / step))
        return [round(place) for place in np.linspace(0, length - self.side, count)]


def _merged(found: list[tuple[Detections, tuple[int, int, int, int]]], size: tuple[int, int]) -> Detections:
    """All tiles' detections in the picture's pixels, each object once: uncut boxes go before cut ones, then by score."""
    boxes = [said.boxes_N4 + np.array([left, top, left, top]) for said, (left, top, *_) in found]
    cut = [_cut(box_N4, place, size) for box_N4, (_, place) in zip(boxes, found, strict=True)]
    boxes_N4, cut_N = np.concatenate(boxes), np.concatenate(cut)
    scores_N = np.concatenate([said.scores_N for said, _ in found])
    labels_N = np.concatenate([said.labels_N for said, _ in found])
    kept: list[int] = []
    for i in np.lexsort((-scores_N, cut_N)).tolist():
        rivals = [j for j in kept if labels_N[j] == labels_N[i]]
        if not rivals or _common(boxes_N4[i], boxes_N4[rivals]).max() <= SAME:
            kept.append(i)
    kept.sort(key=lambda i: -scores_N[i])
    outlines: Any = None
    if all(said.outlines is not None for said, _ in found):
        placed = [(outline, said.size, place) for said, place in found for outline in said.outlines or ()]
        outlines = tuple(_moved(*placed[i], size) for i in kept)
    return Detections(
        size=size, boxes_N4=boxes_N4[kept], scores_N=scores_N[kept], labels_N=labels_N[kept], outlines=outlines
    )


def _cut(boxes_N4: NDArray[np.float64], place: tuple[int, int, int, int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Which boxes touch a border of their tile that is none of the picture's."""
    left, top, right, bottom = place
    x0, y0, x1, y1 = boxes_N4.reshape(-1, 4).T
    return (
        ((x0 < left + AT_BORDER) & (left > 0))
        | ((y0 < top + AT_BORDER) & (top > 0))
        | ((x1 > right - AT_BORDER) & (right < size[1]))
        | ((y1 > bottom - AT_BORDER) & (bottom < size[0]))
    )


def _common(box_4: NDArray[np.float64], others_N4: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of the smaller of two boxes that lies in both."""
    low, high = np.maximum(box_4[:2], others_N4[:, :2]), np.minimum(box_4[2:], others_N4[:, 2:])
    areas = (others_N4[:, 2:] - others_N4[:, :2]).prod(axis=1)
    smaller = np.minimum(areas, (box_4[2:] - box_4[:2]).prod())
    return (high - low).clip(min=0).prod(axis=1) / np.maximum(smaller, 1e-9)


def _moved(outline: Any, tile: tuple[int, int], place: tuple[int, int, int, int], size: tuple[int, int]) -> Any:
    whole = torch.zeros(1, *size, dtype=torch.uint8)
    left, top, right, bottom = place
    whole[:, top:bottom, left:right] = decode_masks([outline], tile)
    return encode(whole)[0]
