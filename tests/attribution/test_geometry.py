"""attribution/geometry.py: a place on a grid is the place in the picture that it was made from."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from hybridvit.attribution.geometry import PIXELS, Axis, view
from hybridvit.attribution.record import sites
from hybridvit.config import Preprocess
from hybridvit.models import catalog

MODES = {
    "center": Preprocess(image_size=(48, 48), crop_pct=0.8),
    "center, wide": Preprocess(image_size=(32, 64), crop_pct=0.8),
    "squash": Preprocess(image_size=(48, 64), crop_pct=1.0, crop_mode="squash"),
    "squash and crop": Preprocess(image_size=(48, 64), crop_pct=0.75, crop_mode="squash"),
    "border": Preprocess(image_size=(64, 64), crop_pct=1.0, crop_mode="border"),
    "border and crop": Preprocess(image_size=(64, 48), crop_pct=0.9, crop_mode="border"),
}


def ramp(height: int, width: int) -> Image.Image:
    """Red tells the row, green the column."""
    rows, columns = np.meshgrid(np.linspace(20, 230, height), np.linspace(20, 230, width), indexing="ij")
    return Image.fromarray(np.stack((rows, columns, 0 * rows), axis=-1).round().astype(np.uint8))


@pytest.mark.parametrize("size", [(150, 90), (90, 150), (61, 47)])
@pytest.mark.parametrize("mode", MODES)
def test_the_input_carried_back_is_the_picture_where_it_was_seen(mode: str, size: tuple[int, int]) -> None:
    preprocess = MODES[mode]
    picture = ramp(*size)
    seen = view(picture, preprocess)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocess.mean, preprocess.std))
    back = seen.to_picture(((seen.input_1CHW[0] * std + mean) * 255).numpy())

    rows, columns = seen.seen
    inside = tuple(slice(part.start + 6, part.stop - 6) for part in (rows, columns))
    wanted = np.asarray(picture).transpose(2, 0, 1)
    assert np.abs(back - wanted)[:, *inside].max() < 3.5  # 1.5 pixels of the steepest ramp
    outside = np.ones(size, dtype=bool)
    outside[rows, columns] = False
    assert not back[:, outside].any()


@pytest.mark.parametrize("mode", MODES)
def test_a_point_finds_the_token_that_lies_under_it(mode: str) -> None:
    seen = view(ramp(150, 90), MODES[mode])
    height, width = seen.input_1CHW.shape[-2:]
    heat = np.zeros((height, width))
    heat[height // 2, width // 3] = 1
    y, x = np.unravel_index(seen.to_picture(heat).argmax(), (150, 90))
    assert seen.to_token(float(x), float(y), PIXELS, (height, width)) == (height // 2, width // 3)


def test_a_point_that_the_crop_left_out_has_no_token() -> None:
    seen = view(ramp(150, 90), MODES["center"])
    assert seen.to_token(45, 5, PIXELS, (48, 48)) is None
    assert seen.to_token(45, 75, PIXELS, (48, 48)) is not None


def test_a_smaller_picture_shows_the_same_places() -> None:
    seen = view(ramp(300, 180), MODES["center"])
    heat = np.random.default_rng(0).random((6, 6))
    axes = (Axis(3.5, 8), Axis(3.5, 8))
    large, small = seen.to_picture(heat, axes), seen.sized(100).to_picture(heat, axes)
    assert small.shape == (100, 60)
    np.testing.assert_allclose(large[1::3, 1::3][21:79, 3:-3], small[21:79, 3:-3], atol=1e-6)


@pytest.mark.parametrize("name", ["cvt_13", "cmt_ti", "cvt_nano", "cmt_nano"])
def test_tokens_and_keys_lie_where_the_convolutions_read(name: str) -> None:
    """Even convolutions alone, from the picture to one token: the middle of what it reads is where it is said to lie."""
    size = (160, 224)
    model: Any = catalog.create(name, img_size=size)
    stem = [layer.conv for layer in model.stem] if hasattr(model, "stem") else []
    found = {site.stage: site for site in sites(model, size)}
    way = list(stem)
    for number, stage in enumerate(model.stages):
        way.append(stage.embed.conv)
        attention = stage.blocks[0].attn
        reduce = attention.k.conv if hasattr(attention, "k") else attention.reduce and attention.reduce.conv
        site = found[number]
        _assert_middle(way, size, site.query_grid, site.query_axes)
        _assert_middle(way + ([reduce] if reduce else []), size, site.key_grid, site.key_axes)


def _assert_middle(convs: list[nn.Conv2d], size: tuple[int, int], grid: tuple[int, int], axes: Any) -> None:
    picture = torch.ones(1, 1, *size, dtype=torch.float64, requires_grad=True)
    x = picture
    for conv in convs:
        kernel: Any = torch.ones(1, 1, *conv.kernel_size, dtype=torch.float64)
        x = torch.nn.functional.conv2d(x, kernel, stride=conv.stride, padding=conv.padding)  # type: ignore[arg-type]
    assert tuple(x.shape[-2:]) == grid
    token = grid[0] // 2, grid[1] // 2
    (read,) = torch.autograd.grad(x[0, 0, token[0], token[1]], picture)
    for axis, index, side, dim in zip(axes, token, size, (1, 0), strict=True):
        share = read[0, 0].sum(dim=dim)
        middle = float((share * torch.arange(side)).sum() / share.sum())
        assert middle == pytest.approx(axis.origin + axis.step * index)
