"""A picture and its mask stay on one another through every transform."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.tv_tensors import Mask

from hybridvit.config import Preprocess
from hybridvit.config.segmentation import SegmentationAugmentSection
from hybridvit.data.mask_transforms import EvalTransform, TrainTransform, distort
from hybridvit.data.masks import colour_map
from hybridvit.errors import ConfigError, DataError

COLOURS = np.array(colour_map(5), dtype=np.uint8)
FILL = (124, 116, 104)  # ImageNet's mean, as bytes


def preprocess(size: tuple[int, int] = (32, 40), **kwargs: str) -> Preprocess:
    return Preprocess(image_size=size, crop_pct=1.0, **{"crop_mode": "border", "interpolation": "nearest", **kwargs})


def painted(height: int = 37, width: int = 53) -> tuple[Image.Image, Mask]:
    """Blocks of five classes, and the picture that shows each in its own colour."""
    blocks = np.random.default_rng(0).integers(0, 5, (-(-height // 4), -(-width // 4)), dtype=np.uint8)
    mask = np.repeat(np.repeat(blocks, 4, axis=0), 4, axis=1)[:height, :width]
    return Image.fromarray(COLOURS[mask]), Mask(torch.from_numpy(mask.copy()))


def augment(**kwargs: object) -> SegmentationAugmentSection:
    return SegmentationAugmentSection(
        **{"short_side": 32, "long_side": 128, "photometric_distortion": False, "vflip": 0.5, **kwargs}
    )


@pytest.mark.parametrize("seed", range(12))
def test_every_pixel_keeps_its_class(seed: int) -> None:
    """Painted in the classes' colours and resized as masks are, the picture says of each pixel what the mask says."""
    torch.manual_seed(seed)
    image, mask = TrainTransform(preprocess(), augment())(*painted())
    assert (tuple(image.shape), image.dtype) == ((3, 32, 40), torch.uint8)
    assert (tuple(mask.shape), mask.dtype) == ((32, 40), torch.uint8)
    expected = torch.from_numpy(COLOURS)[mask.long().clamp(max=4)]
    expected[mask == 255] = torch.tensor(FILL, dtype=torch.uint8)
    assert torch.equal(image.permute(1, 2, 0), expected)


def test_a_mask_is_resized_from_its_pixels_centres_as_its_picture_is() -> None:
    """A step of brightness lies where the step of classes lies, whatever the factor."""
    values = np.zeros((40, 60), dtype=np.uint8)
    values[:, 20:] = 1  # a third: no pixel's centre falls on the step, at any size
    picture = Image.fromarray(values * 200).convert("RGB")
    for seed in range(20):
        torch.manual_seed(seed)
        transform = TrainTransform(preprocess((200, 200), interpolation="bilinear"), augment(hflip=0, vflip=0))
        image, mask = transform(picture, Mask(torch.from_numpy(values)))
        row, classes = image[0, 0].float(), mask[0]
        kept = classes != 255
        assert torch.equal(row[kept] > 100, classes[kept] == 1)


def test_draws_come_from_torchs_generator_alone() -> None:
    transform = TrainTransform(preprocess(), augment(photometric_distortion=True))

    def run(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(seed)
        random.seed(random.random())
        return transform(*painted())

    (a, mask_a), (b, mask_b), (c, _) = run(1), run(1), run(2)
    assert torch.equal(a, b)
    assert torch.equal(mask_a, mask_b)
    assert not torch.equal(a, c)


def test_crops_of_mostly_one_class_are_drawn_again() -> None:
    values = np.zeros((64, 256), dtype=np.uint8)
    values[:, 120:136] = 1
    picture = Image.fromarray(COLOURS[values])

    def share_of_varied_crops(ratio: float) -> float:
        torch.manual_seed(0)
        options = augment(short_side=64, long_side=256, ratio_range=(1.0, 1.0), cat_max_ratio=ratio)
        transform = TrainTransform(preprocess((32, 32)), options)
        crops = [transform(picture, Mask(torch.from_numpy(values)))[1] for _ in range(60)]
        return sum(0.25 < (crop == 1).float().mean() < 0.75 for crop in crops) / len(crops)

    assert share_of_varied_crops(0.75) > 0.5
    assert share_of_varied_crops(1.0) < 0.3


def test_ignored_pixels_have_no_say_in_the_choice_of_a_crop() -> None:
    transform = TrainTransform(preprocess(), augment())
    mostly_ignored = torch.full((8, 8), 255, dtype=torch.uint8)
    mostly_ignored[0, :2] = torch.tensor([0, 1], dtype=torch.uint8)
    assert transform._is_varied(mostly_ignored)
    assert not transform._is_varied(torch.zeros(8, 8, dtype=torch.uint8))


def test_a_mask_of_another_size_is_refused() -> None:
    picture, mask = painted()
    with pytest.raises(DataError, match="53 x 37 pixels, its mask 52 x 37"):
        TrainTransform(preprocess(), augment())(picture, mask[:, :-1])


def test_distortion_changes_colours_within_its_bounds_and_grey_pictures_too() -> None:
    for channels in (3, 1):
        flat = torch.full((channels, 4, 4), 100, dtype=torch.uint8)
        torch.manual_seed(0)
        found = torch.stack([distort(flat)[0, 0, 0] for _ in range(300)]).float()
        assert found.min() >= (100 - 32) * 0.5 - 1
        assert found.max() <= (100 + 32) * 1.5 + 1
        assert 0.15 < (found == 100).float().mean() < 0.35  # neither brightness nor contrast, in a quarter


def test_a_picture_is_evaluated_whole_within_its_border() -> None:
    picture, mask = painted(30, 60)
    image, placed = EvalTransform(preprocess((32, 40)))(picture)
    assert tuple(image.shape) == (3, 32, 40)
    assert placed == ((30, 60), (20, 40))
    assert torch.equal(image[:, 20:], torch.zeros(3, 12, 40))
    mean, std = (torch.tensor(value)[:, None, None] for value in (preprocess().mean, preprocess().std))
    colour = torch.tensor(COLOURS[mask[0, 0]])[:, None, None] / 255
    assert torch.allclose(image[:, :1, :1], (colour - mean) / std)


def test_a_picture_may_be_stretched() -> None:
    _, placed = EvalTransform(preprocess((32, 40), crop_mode="squash"))(painted(30, 60)[0])
    assert placed == ((30, 60), (32, 40))


def test_cropping_the_evaluated_picture_is_refused() -> None:
    with pytest.raises(ConfigError, match="border or squash, found center"):
        EvalTransform(preprocess(crop_mode="center"))
