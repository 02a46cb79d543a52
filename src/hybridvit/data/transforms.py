"""Per-image transforms, by timm. Mixing needs a batch and lives in train/mix.py."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from torchvision.transforms import Compose, InterpolationMode, RandomAffine

from hybridvit.config import AugmentSection, Preprocess

Transform = Callable[[Image.Image], torch.Tensor]


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
    steps = [*transform.transforms[:-1], _to_tensor]
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


def _to_tensor(picture: Image.Image) -> torch.Tensor:
    """As timm's last step, without its transposition."""
    pixels = torch.from_numpy(np.array(picture))
    return pixels.reshape(picture.height, picture.width, -1).permute(2, 0, 1)
