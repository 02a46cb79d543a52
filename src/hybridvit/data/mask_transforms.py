"""Transforms that keep a picture and its mask on one another, pixel by pixel.

A mask is resized by nearest neighbour, measured from the pixels' centres as the picture's bilinear interpolation is. (torchvision
resizes masks from the pixels' corners, as OpenCV does: off by up to half a pixel.)
Tensors: C channels, H rows, W columns.
"""

from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import Mask

from hybridvit.config import Preprocess
from hybridvit.config.segmentation import SegmentationAugmentSection
from hybridvit.data.masks import ignored_in
from hybridvit.errors import ConfigError, DataError

CROPS = 10
"""Crops that are drawn before one of a single class is taken. Source: mmsegmentation, RandomCrop."""
INTERPOLATION = {
    "bilinear": v2.InterpolationMode.BILINEAR,
    "bicubic": v2.InterpolationMode.BICUBIC,
    "nearest": v2.InterpolationMode.NEAREST_EXACT,
}


class TrainTransform:
    """Resize, crop, flip, distort. Draws come from torch's generator.

    Source: mmsegmentation's pipeline for ADE20K, as PVT and Swin use it. Saturation is blended with grey, where mmsegmentation
    multiplies it in HSV.
    """

    def __init__(self, preprocess: Preprocess, augment: SegmentationAugmentSection) -> None:
        self.augment, self.crop_size = augment, preprocess.image_size
        self.interpolation = INTERPOLATION[preprocess.interpolation]
        self.fill = [round(255 * value) for value in preprocess.mean]

    def __call__(self, picture: Image.Image, mask_HW: Mask) -> tuple[Tensor, Mask]:
        """Shape: picture, mask (H, W) -> (C, *crop), (*crop). Raises: DataError where their sizes differ."""
        if (picture.height, picture.width) != tuple(mask_HW.shape):
            raise DataError(
                f"A picture has {picture.width} x {picture.height} pixels, its mask {mask_HW.shape[1]} x {mask_HW.shape[0]}."
            )
        image_CHW: Tensor = F.pil_to_tensor(picture)
        size = self._size(*mask_HW.shape)
        image_CHW = F.resize(image_CHW, list(size), self.interpolation, antialias=True)
        mask_HW = Mask(F.resize(mask_HW.as_subclass(Tensor)[None], list(size), v2.InterpolationMode.NEAREST_EXACT)[0])
        image_CHW, mask_HW = self._crop(image_CHW, mask_HW)
        for share, flip in ((self.augment.hflip, F.horizontal_flip), (self.augment.vflip, F.vertical_flip)):
            if share and torch.rand(()) < share:
                image_CHW, mask_HW = flip(image_CHW), flip(mask_HW)
        if self.augment.photometric_distortion:
            image_CHW = distort(image_CHW)
        return image_CHW, mask_HW

    def _size(self, height: int, width: int) -> tuple[int, int]:
        low, high = self.augment.ratio_range
        ratio = low + (high - low) * float(torch.rand(()))
        short, long = sorted((height, width))
        factor = min(ratio * self.augment.short_side / short, ratio * self.augment.long_side / long)
        return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)

    def _crop(self, image_CHW: Tensor, mask_HW: Mask) -> tuple[Tensor, Mask]:
        (height, width), (rows, columns) = mask_HW.shape, self.crop_size
        rows, columns = min(rows, height), min(columns, width)
        for _ in range(CROPS):
            top, left = int(torch.randint(height - rows + 1, ())), int(torch.randint(width - columns + 1, ()))
            cut_HW = mask_HW[top : top + rows, left : left + columns]
            if (rows, columns) == (height, width) or self.augment.cat_max_ratio == 1 or self._is_varied(cut_HW):
                break
        image_CHW = F.crop(image_CHW, top, left, rows, columns)
        mask_HW = F.crop(mask_HW, top, left, rows, columns)
        missing = [0, 0, self.crop_size[1] - columns, self.crop_size[0] - rows]
        if any(missing):
            image_CHW, mask_HW = (
                F.pad(image_CHW, missing, fill=self.fill),
                F.pad(mask_HW, missing, fill=ignored_in(mask_HW)),
            )
        return image_CHW, mask_HW

    def _is_varied(self, mask_HW: Tensor) -> bool:
        labels = mask_HW[mask_HW != ignored_in(mask_HW)]
        counts = torch.unique(labels, return_counts=True)[1]
        return len(counts) > 1 and int(counts.max()) < self.augment.cat_max_ratio * len(labels)


def distort(image_CHW: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue, each by half a chance; contrast before or behind the colours.

    Source: mmsegmentation, PhotoMetricDistortion: brightness +- 32, contrast and saturation x 0.5 to 1.5, hue +- a tenth of the
    circle.
    """

    def coin() -> bool:
        return bool(torch.rand(()) < 0.5)

    def contrasted(image: Tensor) -> Tensor:
        return _rounded(image * (0.5 + float(torch.rand(())))) if coin() else image

    if coin():
        image_CHW = _rounded(image_CHW + (64 * float(torch.rand(())) - 32))
    contrast_first = coin()
    if contrast_first:
        image_CHW = contrasted(image_CHW)
    if len(image_CHW) == 3 and coin():
        image_CHW = F.adjust_saturation(image_CHW, 0.5 + float(torch.rand(())))
    if len(image_CHW) == 3 and coin():
        image_CHW = F.adjust_hue(image_CHW, 0.2 * float(torch.rand(())) - 0.1)
    return image_CHW if contrast_first else contrasted(image_CHW)


def _rounded(image: Tensor) -> Tensor:
    return image.round().clamp(0, 255).to(torch.uint8)


class Placed(NamedTuple):
    """Where a picture lies in the tensor that was made of it."""

    size: tuple[int, int]
    """The picture's own rows and columns."""
    inside: tuple[int, int]
    """Rows and columns of the tensor that show it, from the top left; the rest is padding."""


class EvalTransform:
    """The whole picture at preprocess.image_size: fitted in and padded at the right and bottom (border), or stretched (squash).

    So every picture of a batch has one size, and is evaluated the same in any batch.

    Raises: ConfigError for a crop_mode that would leave pixels out.
    """

    def __init__(self, preprocess: Preprocess) -> None:
        if preprocess.crop_mode == "center":
            raise ConfigError(
                "Segmentation evaluates every pixel: preprocess.crop_mode must be border or squash, found center."
            )
        self.preprocess = preprocess

    def __call__(self, picture: Image.Image) -> tuple[Tensor, Placed]:
        """Shape: picture -> (C, *image_size), normalised."""
        (rows, columns), size = self.preprocess.image_size, (picture.height, picture.width)
        inside = (rows, columns)
        if self.preprocess.crop_mode == "border":
            factor = min(rows / size[0], columns / size[1])
            inside = (min(max(round(size[0] * factor), 1), rows), min(max(round(size[1] * factor), 1), columns))
        image_CHW = normalised(picture, inside, self.preprocess)
        return F.pad(image_CHW, [0, 0, columns - inside[1], rows - inside[0]]), Placed(size, inside)


def normalised(picture: Image.Image, size: tuple[int, int], preprocess: Preprocess) -> Tensor:
    """The picture at `size` (rows, columns), as the model expects it; 0 is the mean. Shape: (C, *size), float32."""
    image_CHW: Any = F.resize(
        F.pil_to_tensor(picture), list(size), INTERPOLATION[preprocess.interpolation], antialias=True
    )
    return F.normalize(F.to_dtype(image_CHW, torch.float32, scale=True), list(preprocess.mean), list(preprocess.std))
