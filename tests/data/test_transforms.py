"""data/transforms.py: training pictures are timm's, whichever library makes them smaller."""

from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import rand_augment_transform

from hybridvit.config import AugmentSection, Preprocess
from hybridvit.data.transforms import train_transform
from hybridvit.runtime import generators_kept, seed_generators

SIZE = (48, 64)


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Structure at all scales, with hard edges."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, size=(9, 12, 3), dtype=np.uint8)).resize((width, height))
    fine = Image.fromarray(rng.integers(0, 256, size=(height, width, 3), dtype=np.uint8))
    return Image.blend(coarse, fine, 0.3).convert(mode)


def both(source: Image.Image, seed: int, interpolation: str, auto_augment: str | None = None) -> list[np.ndarray]:
    grey = source.mode == "L"
    preprocess = Preprocess(image_size=SIZE, mean=(0.5,) if grey else (0.5,) * 3, std=(0.5,) if grey else (0.5,) * 3)
    augment = AugmentSection(interpolation=interpolation, hflip=0.5, auto_augment=auto_augment)  # type: ignore[arg-type]
    theirs = create_transform(
        (preprocess.in_chans, *SIZE),
        is_training=True,
        hflip=0.5,
        color_jitter=None,
        auto_augment=auto_augment,
        interpolation=interpolation,
        mean=preprocess.mean,
        normalize=False,
    )
    found = []
    for transform in (train_transform(preprocess, augment), theirs):
        with generators_kept():
            seed_generators(seed)
            found.append(np.asarray(transform(source)).astype(int))
    return found


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "random"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_smaller_pictures_are_timms_within_one_step_of_rounding(interpolation: str, mode: str) -> None:
    source = picture(500, 375, mode)
    differing = []
    for seed in range(30):
        ours, theirs = both(source, seed, interpolation)
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= 1
        differing.append((ours != theirs).mean())
    assert 0 < np.mean(differing) < 0.02


@pytest.mark.parametrize("interpolation", ["bicubic", "nearest"])
def test_larger_pictures_and_nearest_neighbours_are_timms_exactly(interpolation: str) -> None:
    source = picture(30, 40) if interpolation == "bicubic" else picture(500, 375)
    for seed in range(20):
        np.testing.assert_array_equal(*both(source, seed, interpolation))


def test_augmentation_draws_the_same_numbers_after_the_crop() -> None:
    source = picture(30, 40)
    for seed in range(20):
        np.testing.assert_array_equal(*both(source, seed, "bicubic", auto_augment="rand-m9-mstd0.5-inc1"))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_smaller_picture_is_an_ordinary_one_to_every_operation(mode: str) -> None:
    grey = mode == "L"
    preprocess = Preprocess(image_size=SIZE, mean=(0.5,) if grey else (0.5,) * 3, std=(0.5,) if grey else (0.5,) * 3)
    crop = cast(Any, train_transform(preprocess, AugmentSection(crop_scale=(0.9, 1.0)))).transforms[0]
    small = crop(picture(500, 375, mode))
    copied = Image.fromarray(np.array(small))
    assert (small.mode, small.size) == (mode, (SIZE[1], SIZE[0]))
    for operation in rand_augment_transform("rand-m9-p1", {"img_mean": 128 if grey else (128, 128, 128)}).ops:
        found = []
        for source in (small, copied):
            with generators_kept():
                seed_generators(0)
                found.append(np.asarray(operation(source)))
        np.testing.assert_array_equal(*found)
