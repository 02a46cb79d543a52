"""Pictures and their objects on the way to a model: boxes and masks move with the pixels.

Tensors: N objects, C channels, H rows, W columns.
"""

from typing import Any, NamedTuple

import torch
from PIL.Image import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import BoundingBoxes, Mask

from hybridvit.config import Preprocess
from hybridvit.config.detection import DetectionAugmentSection
from hybridvit.data.objects import Objects
from hybridvit.errors import DataError

CROP_FROM = (400, 500, 600)
CROP_SIDES = (384, 600)
LEAST_SIDE = 1.0
"""Of a box, in pixels of the model's input: smaller ones are not learnt."""

Boxes = dict[str, Any]
"""What a model learns of a picture: boxes (N, 4) float32, labels (N,), size; masks (N, H, W) uint8 where they are asked for."""


class Frame(NamedTuple):
    size: tuple[int, int]
    """Rows and columns of the picture."""
    resized: tuple[int, int]
    """The same of what the model sees, without padding."""


class TrainTransform:
    """Crop, resize, flip. Regions of many objects are no objects to learn from.

    Raises: DataError where picture and objects are of different sizes, and where masks are asked for that are not there.
    """

    def __init__(self, preprocess: Preprocess, augment: DetectionAugmentSection, *, masks: bool) -> None:
        self.interpolation = InterpolationMode(preprocess.interpolation)
        self.augment, self.masks = augment, masks

    def __call__(self, picture: Image, objects: Objects) -> tuple[Tensor, Boxes]:
        if objects.size != (picture.height, picture.width):
            raise DataError(
                f"A picture of {picture.height} rows and {picture.width} columns has objects of one of {objects.size}: "
                "they belong to another size."
            )
        objects = objects.keep(~objects.crowd_N)
        seen: dict[str, Any] = {
            "picture": picture,
            "boxes": BoundingBoxes(objects.boxes_N4, format="XYXY", canvas_size=objects.size),
        }
        if self.masks:
            seen["masks"] = Mask(objects.masks())
        labels_N = objects.labels_N
        if _happens(self.augment.crop):
            seen = _resized(seen, _one_of(CROP_FROM), 10**6, self.interpolation)
            seen = _window(seen)
        if _happens(self.augment.hflip):
            seen = {name: F.horizontal_flip(each) for name, each in seen.items()}
        seen = _resized(seen, _one_of(self.augment.short_sides), self.augment.long_side, self.interpolation)
        boxes_N4 = seen["boxes"].as_subclass(Tensor)
        kept = ((boxes_N4[:, 2:] - boxes_N4[:, :2]) >= LEAST_SIDE).all(dim=1)
        target = {
            "boxes": boxes_N4[kept].float(),
            "labels": labels_N[kept],
            "size": (seen["picture"].height, seen["picture"].width),
        }
        if self.masks:
            target["masks"] = seen["masks"].as_subclass(Tensor)[kept]
        return F.pil_to_tensor(seen["picture"]), target


class EvalTransform:
    """Resize and normalise."""

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess
        self.interpolation = InterpolationMode(preprocess.interpolation)

    def __call__(self, picture: Image) -> tuple[Tensor, Frame]:
        short, long = self.preprocess.image_size
        size = (picture.height, picture.width)
        resized = resized_to(size, short, long)
        picture = F.resize(picture, list(resized), self.interpolation)
        image_CHW = F.normalize(
            F.to_dtype(F.pil_to_tensor(picture), torch.float32, scale=True),
            list(self.preprocess.mean),
            list(self.preprocess.std),
        )
        return image_CHW, Frame(size, resized)


def resized_to(size: tuple[int, int], short: int, long: int) -> tuple[int, int]:
    """Keeping the ratio, the short side to `short`, unless the long one would exceed `long`; to the nearest pixel."""
    factor = min(short / min(size), long / max(size))
    return max(1, int(size[0] * factor + 0.5)), max(1, int(size[1] * factor + 0.5))


def _resized(seen: dict[str, Any], short: int, long: int, interpolation: InterpolationMode) -> dict[str, Any]:
    size = list(resized_to((seen["picture"].height, seen["picture"].width), short, long))
    return {
        name: F.resize(each, size, interpolation if name == "picture" else InterpolationMode.NEAREST)
        for name, each in seen.items()
    }


def _window(seen: dict[str, Any]) -> dict[str, Any]:
    sides = (seen["picture"].height, seen["picture"].width)
    least, most = CROP_SIDES
    rows, columns = (_between(min(side, least), min(side, most)) for side in sides)
    top, left = _between(0, sides[0] - rows), _between(0, sides[1] - columns)
    return {name: F.crop(each, top, left, rows, columns) for name, each in seen.items()}


def _happens(share: float) -> bool:
    return share > 0 and float(torch.rand(())) < share


def _between(low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, ()))


def _one_of(values: tuple[int, ...]) -> int:
    return values[_between(0, len(values) - 1)] if len(values) > 1 else values[0]
