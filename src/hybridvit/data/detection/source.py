"""Pictures with boxes, by number."""

import json
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hybridvit.data.decode import measure
from hybridvit.data.detection.raw import RawPictures
from hybridvit.data.detection.tidy import class_names_of, tidy
from hybridvit.data.objects import Objects, Rle, as_text, coco_masks, decode, encode
from hybridvit.data.readers.files import NO_LABEL
from hybridvit.data.source import Counts, Source
from hybridvit.errors import DataError
from hybridvit.output import printable

TURNED = (5, 6, 7, 8)
"""EXIF orientations that exchange rows and columns."""


class DetectionSource(Source):
    """Pictures and what stands on them, of one part.

    A picture is shown upright, as its EXIF orientation says, and boxes are of the upright picture: that is what annotation tools
    show. Where the file states a size that is the stored picture's and not the upright one's, its boxes are of the stored
    picture, and are turned with it. Any other stated size is an error.

    Raises: DataError for what `tidy` refuses.
    """

    def __init__(self, raw: RawPictures, class_names: Sequence[str] | None = None) -> None:
        self.file, self.unit = raw.file, raw.unit
        self.class_names = class_names_of(raw, class_names)
        believed = tidy(raw, self.class_names)
        self.files = [path for path, _ in believed]
        self.records = [record for _, record in believed]
        self.labels = [NO_LABEL] * len(believed)
        self.counts = Counts(len(believed), notes=tuple(raw.findings.notes()))

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        return printable(str(self.files[index]))

    def read(self, index: int) -> bytes:
        return self.files[index].read_bytes()

    def target(self, index: int) -> Objects:
        """Raises: DataError when the picture's size is not the stated one; OSError when it cannot be read."""
        stated, found = json.loads(self.records[index])
        size, turn = _upright(self.read(index), self.name(index))
        turned = (stated is not None) and tuple(stated) != size and turn in TURNED and tuple(stated) == size[::-1]
        if stated is not None and tuple(stated) != size and not turned:
            raise DataError(
                f"{self.name(index)} has {size[0]} rows and {size[1]} columns, {self.file} says {stated[0]} and {stated[1]}: "
                "the boxes belong to another size. Restore the picture, or correct the file."
            )
        frame = size[::-1] if turned else size
        rows, columns = frame if self.unit else (1, 1)
        sides = torch.tensor([columns, rows, columns, rows], dtype=torch.float64)
        boxes_N4 = torch.tensor([box for box, *_ in found], dtype=torch.float64).reshape(-1, 4) * sides
        outlines = _drawn([outline for *_, outline in found], frame, (columns, rows)) if _outlined(found) else None
        if turned:
            boxes_N4 = _turn_boxes(boxes_N4, frame, turn)
            outlines = None if outlines is None else _turn_outlines(outlines, turn)
        areas = [area for *_, area, _ in found]
        measured = _areas(boxes_N4, outlines)
        return Objects(
            size=size,
            boxes_N4=boxes_N4,
            labels_N=torch.tensor([label for _, label, *_ in found], dtype=torch.int64),
            crowd_N=torch.tensor([crowd for _, _, crowd, *_ in found], dtype=torch.bool),
            areas_N=torch.tensor(
                [m if a is None else a for a, m in zip(areas, measured, strict=True)], dtype=torch.float64
            ),
            outlines=outlines,
        )


def _outlined(found: list[Any]) -> bool:
    return any(outline is not None for *_, outline in found)


def _upright(data: bytes, name: str) -> tuple[tuple[int, int], int]:
    """Rows and columns as the picture is shown, and its EXIF orientation."""
    size, turn = measure(data, name=name)
    return (size[::-1] if turn in TURNED else size), turn


def _drawn(outlines: list[Any], frame: tuple[int, int], scale: tuple[int, int]) -> tuple[Rle, ...]:
    masks = coco_masks()
    drawn = []
    for outline in outlines:
        if isinstance(outline, dict):
            is_list = isinstance(outline["counts"], list)
            drawn.append(masks.frPyObjects(outline, *frame) if is_list else outline)
            continue
        polygons = [[value * scale[i % 2] for i, value in enumerate(polygon)] for polygon in outline]
        drawn.append(masks.merge(masks.frPyObjects(polygons, *frame)))
    return as_text(drawn)


def _areas(boxes_N4: Tensor, outlines: tuple[Rle, ...] | None) -> list[float]:
    if outlines:
        return [float(area) for area in coco_masks().area(list(outlines))]
    return [math.prod((right - left, bottom - top)) for left, top, right, bottom in boxes_N4.tolist()]


def _turn_boxes(boxes_N4: Tensor, frame: tuple[int, int], turn: int) -> Tensor:
    """From a stored picture of `frame` rows and columns to the upright one."""
    rows, columns = frame
    left, top, right, bottom = boxes_N4.unbind(1)
    x = {5: (top, bottom), 6: (rows - bottom, rows - top), 7: (rows - bottom, rows - top), 8: (top, bottom)}[turn]
    y = {
        5: (left, right),
        6: (left, right),
        7: (columns - right, columns - left),
        8: (columns - right, columns - left),
    }[turn]
    return torch.stack((x[0], y[0], x[1], y[1]), dim=1)


def _turn_outlines(outlines: tuple[Rle, ...], turn: int) -> tuple[Rle, ...]:
    masks_NHW = decode(outlines, tuple(outlines[0]["size"])).transpose(1, 2)
    flips = {5: (), 6: (2,), 7: (1, 2), 8: (1,)}[turn]
    return encode(masks_NHW.flip(flips) if flips else masks_NHW)
