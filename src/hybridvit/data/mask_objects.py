"""Outlines of objects, from a COCO file or others that detection reads, as masks: what is no object is background."""

import numpy as np
import torch
from PIL.Image import Image
from torchvision.tv_tensors import Mask

from hybridvit.data.masks import Classes, colour_map, ignore_value
from hybridvit.data.source import Source


class PaintedObjects(Source):
    """Class 0 is the background, class k + 1 the file's class k. Where objects overlap, the smaller one is seen.

    Raises, as targets are read: DataError for objects that have boxes and no outlines.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.labels, self.counts = source, source.labels, source.counts
        self.class_names = ("background", *source.class_names)
        self.classes = Classes(self.class_names, colour_map(len(self.class_names)))

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        return self.source.name(index)

    def mask_name(self, index: int) -> str:
        return f"the outlines of {self.name(index)}"

    def read(self, index: int) -> bytes | Image:
        return self.source.read(index)

    def values(self, index: int) -> np.ndarray:
        """Shape: (H, W) of the upright picture."""
        objects = self.source.target(index)
        small = ignore_value(len(self.class_names)) == ignore_value(0)
        painted_HW = np.zeros(objects.size, dtype=np.uint8 if small else np.int32)
        if len(objects):
            masks_NHW = objects.masks().numpy().astype(bool)
            for number in np.argsort(-masks_NHW.sum(axis=(1, 2)), kind="stable"):
                painted_HW[masks_NHW[number]] = int(objects.labels_N[number]) + 1
        return painted_HW

    def target(self, index: int) -> Mask:
        return Mask(torch.from_numpy(self.values(index)))
