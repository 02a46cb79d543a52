"""Per-image transforms, by timm. Mixing needs a batch and lives in tasks/mixing.py."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from timm.data.transforms import RandomResizedCropAndInterpolation
from torch.nn.functional import interpolate
from torchvision.transforms import Compose, InterpolationMode, RandomAffine
from torchvision.transforms.functional import resized_crop

from hybridvit.config import AugmentSection, Preprocess

Transform = Callable[[Image.Image], torch.Tensor]

RAW = {"L": "L", "RGB": "RGBX"}
"""How Pillow keeps pixels in memory, by mode: reading and writing them so is a plain copy."""


def eval_transform(preprocess: Preprocess) -> Transform:
    """Picture -> normalised float tensor (C, H, W): what the weights expect."""
    return create_transform(
        (preprocess.in_chans, *preprocess.image_size),
        interpolation=preprocess.interpolation,
        mean=preprocess.mean,
        std=preprocess.std,
        crop_pct=preprocess.crop_pct,
        crop_mode=preprocess.crop_mode,
    )


def train_transform(preprocess: Preprocess, augment: AugmentSection) -> Transform:
    """Picture -> augmented uint8 tensor (C, H, W), channels last in memory. The batch is normalised on the device."""
    transform = create_transform(
        (preprocess.in_chans, *preprocess.image_size),
        is_training=True,
        train_crop_mode=augment.crop_mode,
        scale=augment.crop_scale,
        ratio=augment.crop_ratio,
        hflip=augment.hflip,
        vflip=augment.vflip,
        color_jitter=augment.color_jitter or None,  # type: ignore[arg-type]
        auto_augment=augment.auto_augment,
        interpolation=augment.interpolation,
        mean=preprocess.mean,
        normalize=False,
    )
    crop, *others = transform.transforms[:-1]
    steps = [_FastCrop(crop) if isinstance(crop, RandomResizedCropAndInterpolation) else crop, *others, _to_tensor]
    if augment.rotate or augment.translate or augment.shear or augment.zoom != (1.0, 1.0):
        affine = RandomAffine(
            augment.rotate,
            translate=(augment.translate, augment.translate),
            scale=augment.zoom,
            shear=augment.shear or None,
            interpolation=InterpolationMode.BILINEAR,
            fill=[round(255 * value) for value in preprocess.mean],
        )
        steps = [affine, *steps]
    return Compose(steps)


class KeepingTarget:
    """A transform of pictures for pairs of picture and target, where the target does not depend on the pixels' places."""

    def __init__(self, transform: Transform) -> None:
        self.transform = transform

    def __call__(self, picture: Image.Image, target: Any) -> tuple[torch.Tensor, Any]:
        return self.transform(picture), target


class WithoutFrame:
    """A transform of pictures whose predictions need no way back to the picture's pixels."""

    def __init__(self, transform: Transform) -> None:
        self.transform = transform

    def __call__(self, picture: Image.Image) -> tuple[torch.Tensor, None]:
        return self.transform(picture), None


class _FastCrop:
    """timm's random resized crop with the same draws; where it makes pictures smaller, torch resizes instead of Pillow.

    Both filter with antialiasing; torch takes a third of the time. Its rounding differs: by 1 of 255, in fewer than 2 % of
    the values. Pictures to be evaluated are resized by Pillow alone, as the weights expect.
    """

    def __init__(self, theirs: RandomResizedCropAndInterpolation) -> None:
        self.theirs = theirs

    def __call__(self, picture: Image.Image) -> Image.Image:
        theirs: Any = self.theirs
        top, left, height, width = theirs.get_params(picture, theirs.scale, theirs.ratio)
        several = isinstance(theirs.interpolation, tuple | list)
        mode = random.choice(theirs.interpolation) if several else theirs.interpolation
        if mode == InterpolationMode.NEAREST or height * width <= theirs.size[0] * theirs.size[1]:
            return resized_crop(picture, top, left, height, width, theirs.size, mode)
        crop = picture.crop((left, top, left + width, top + height))
        pixels = torch.frombuffer(bytearray(crop.tobytes("raw", RAW[crop.mode])), dtype=torch.uint8)
        tensor = pixels.view(1, height, width, -1).permute(0, 3, 1, 2)
        small = interpolate(tensor, size=theirs.size, mode=mode.value, antialias=True)[0].permute(1, 2, 0)
        shape = small.shape[1], small.shape[0]
        return Image.frombytes(crop.mode, shape, small.contiguous().numpy(), "raw", RAW[crop.mode])


def _to_tensor(picture: Image.Image) -> torch.Tensor:
    """As timm's last step, without its transposition."""
    pixels = torch.from_numpy(np.array(picture))
    return pixels.reshape(picture.height, picture.width, -1).permute(2, 0, 1)
