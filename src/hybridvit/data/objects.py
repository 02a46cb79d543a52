"""What stands on a picture: boxes, classes and outlines. What detection learns, and is compared with.

Outlines are kept run-length encoded, as COCO does (a picture's masks are megabytes, its runs some hundred bytes).

Tensors: N objects, H rows, W columns.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hybridvit.errors import DataError

Rle = dict[str, Any]
"""size (rows, columns) and counts, COCO's compressed runs of a mask's columns."""


@dataclass(frozen=True, kw_only=True)
class Objects:
    """All of one picture's objects, in its own pixels."""

    size: tuple[int, int]
    """Rows and columns of the picture."""
    boxes_N4: Tensor
    """Left, top, right, bottom, float64: the first pixel's left border is 0."""
    labels_N: Tensor
    """Classes from 0, int64."""
    crowd_N: Tensor
    """A region of many objects: never learnt; what is found in it is neither right nor wrong."""
    areas_N: Tensor
    """By which COCO calls an object small, medium or large, float64."""
    outlines: tuple[Rle, ...] | None = None
    """One per object; None where there are boxes only."""

    def __len__(self) -> int:
        return len(self.labels_N)

    def masks(self) -> Tensor:
        """Shape: (N, H, W), uint8. Raises: DataError where there are boxes only."""
        if self.outlines is None:
            raise DataError("These objects have boxes and no outlines: a model with masks cannot learn from them.")
        return decode(self.outlines, self.size)

    def keep(self, chosen: Tensor) -> "Objects":
        """Those objects for which `chosen`, of N booleans, holds."""
        outlines = None
        if self.outlines is not None:
            outlines = tuple(outline for outline, kept in zip(self.outlines, chosen.tolist(), strict=True) if kept)
        return Objects(
            size=self.size,
            boxes_N4=self.boxes_N4[chosen],
            labels_N=self.labels_N[chosen],
            crowd_N=self.crowd_N[chosen],
            areas_N=self.areas_N[chosen],
            outlines=outlines,
        )


def coco_annotations(objects: Objects, *, image_id: int, first_id: int) -> list[dict[str, Any]]:
    """As a COCO file has them; categories by their numbers, from 0."""
    entries = []
    for i, (left, top, right, bottom) in enumerate(objects.boxes_N4.tolist()):
        entry = {
            "id": first_id + i,
            "image_id": image_id,
            "category_id": int(objects.labels_N[i]),
            "bbox": [left, top, right - left, bottom - top],
            "area": float(objects.areas_N[i]),
            "iscrowd": int(objects.crowd_N[i]),
        }
        if objects.outlines is not None:
            entry["segmentation"] = objects.outlines[i]
        entries.append(entry)
    return entries


def encode(masks_NHW: Tensor | np.ndarray) -> tuple[Rle, ...]:
    masks_HWN = np.asfortranarray(np.asarray(masks_NHW, dtype=np.uint8).transpose(1, 2, 0))
    return as_text(coco_masks().encode(masks_HWN)) if masks_HWN.shape[2] else ()


def as_text(outlines: Iterable[Rle]) -> tuple[Rle, ...]:
    """With counts as JSON can hold them."""
    return tuple(
        {
            "size": list(each["size"]),
            "counts": each["counts"].decode() if isinstance(each["counts"], bytes) else each["counts"],
        }
        for each in outlines
    )


def decode(outlines: Sequence[Rle], size: tuple[int, int]) -> Tensor:
    """Shape: (N, *size), uint8."""
    if not outlines:
        return torch.zeros(0, *size, dtype=torch.uint8)
    masks_HWN = coco_masks().decode(list(outlines))
    return torch.from_numpy(np.ascontiguousarray(masks_HWN.transpose(2, 0, 1)))


def coco_masks() -> ModuleType:
    """The library that reads and writes COCO's runs. Raises: DataError where it is not installed."""
    try:
        from faster_coco_eval.core import mask  # an extra: only detection needs it
    except ImportError as error:
        raise DataError("COCO's masks and figures need faster-coco-eval: pip install 'hybridvit[detect]'") from error
    return mask
