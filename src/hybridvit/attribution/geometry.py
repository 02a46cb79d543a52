"""From places on a model's grids to places in the picture, and back.

A token is not a tile: a convolution of kernel k, stride s and padding p puts token i at s * i - p + (k - 1) / 2 of the grid that
it reads. So CvT's last keys lie at the pixels 1, 33, 65 ... of its input, nearly half a tile before 15.5, 47.5, 79.5 ... where a
stretched map would show them. The positions here come from the model's own convolutions, and from the resize and crop that its
pictures go through.

h, w rows and columns of a grid of tokens; H, W rows and columns of the picture.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from hybridvit.config import Preprocess
from hybridvit.data.transforms import eval_transform
from hybridvit.models.position import Grid


@dataclass(frozen=True)
class Axis:
    """Where the tokens of a grid lie along one side: token i at origin + step * i, pixel i of the picture at i."""

    origin: float
    step: float

    def through(self, kernel: int, stride: int, padding: int) -> "Axis":
        """The grid that a convolution makes of this one."""
        return Axis(self.origin + self.step * ((kernel - 1) / 2 - padding), self.step * stride)


Axes = tuple[Axis, Axis]
"""Of rows and of columns."""

PIXELS: Axes = (Axis(0.0, 1.0), Axis(0.0, 1.0))


def through(axes: Axes, *convs: nn.Conv2d) -> Axes:
    """The grid that convolutions, one after another, make of another."""
    rows, columns = axes
    for conv in convs:
        padding: Any = conv.padding
        rows = rows.through(conv.kernel_size[0], conv.stride[0], padding[0])
        columns = columns.through(conv.kernel_size[1], conv.stride[1], padding[1])
    return rows, columns


@dataclass(frozen=True)
class View:
    """One picture as the model was given it: resized, cropped or padded, normalised.

    Pixel i of the input lies at axes.origin + axes.step * i of the picture, in pixels.
    """

    picture: Image.Image
    input_1CHW: Tensor
    axes: Axes

    @property
    def size(self) -> Grid:
        """Rows and columns of the picture."""
        return self.picture.height, self.picture.width

    @property
    def input_size(self) -> Grid:
        """Rows and columns of the input."""
        return self.input_1CHW.shape[-2], self.input_1CHW.shape[-1]

    def to_picture(self, map_hw: np.ndarray, axes: Axes = PIXELS) -> np.ndarray:
        """Carry a map from a grid to the picture: linear between tokens, constant beyond the outermost, 0 where nothing was seen.

        `axes`: where the tokens lie in the input. Shape: (..., h, w) -> (..., H, W).
        """
        rows, columns = (
            _interpolation(_chain(own, grid), tokens, pixels=pixels, seen=_span(own, side))
            for own, grid, tokens, pixels, side in zip(
                self.axes, axes, map_hw.shape[-2:], self.size, self.input_size, strict=True
            )
        )
        return rows @ map_hw @ columns.T

    def to_input(self, map_hw: np.ndarray, axes: Axes) -> np.ndarray:
        """Carry a map from a grid to the pixels of the input, in the same way. Shape: (..., h, w) -> (..., rows, columns)."""
        rows, columns = (
            _interpolation(axis, tokens, pixels=side, seen=(0, side))
            for axis, tokens, side in zip(axes, map_hw.shape[-2:], self.input_size, strict=True)
        )
        return rows @ map_hw @ columns.T

    @property
    def seen(self) -> tuple[slice, slice]:
        """Rows and columns of the picture that the model was given."""
        rows, columns = (
            slice(max(0, round(low + 0.5)), min(pixels, round(high + 0.5)))
            for (low, high), pixels in zip(map(_span, self.axes, self.input_size), self.size, strict=True)
        )
        return rows, columns

    def sized(self, side: int) -> "View":
        """The same view of a picture whose longer side is `side` pixels, or a little less where small pixels are repeated."""
        factor = side / max(self.picture.size)
        if factor >= 2:
            picture = self.picture.resize([int(factor) * n for n in self.picture.size], Image.Resampling.NEAREST)
        else:
            picture = self.picture.copy()
            picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        factors = picture.height / self.picture.height, picture.width / self.picture.width
        rows, columns = (
            _chain(Axis(factor / 2 - 0.5, factor), own) for factor, own in zip(factors, self.axes, strict=True)
        )
        return View(picture, self.input_1CHW, (rows, columns))

    def to_token(self, x: float, y: float, axes: Axes, grid: Grid) -> Grid | None:
        """Row and column of the token nearest to a pixel of the picture; None where the crop left the pixel out."""
        token = []
        for place, own, axis, tokens, side in zip((y, x), self.axes, axes, grid, self.input_size, strict=True):
            low, high = _span(own, side)
            if not low <= place <= high:
                return None
            whole = _chain(own, axis)
            token.append(round(min(max((place - whole.origin) / whole.step, 0), tokens - 1)))
        return token[0], token[1]


def view(picture: Image.Image, preprocess: Preprocess) -> View:
    """Put a picture through the model's own resize and crop, and note what went where."""
    transform: Any = eval_transform(preprocess)
    resized = transform.transforms[0](picture)
    axes = tuple(
        _axis_of_input(pixels, after, side)
        for pixels, after, side in zip(picture.size[::-1], resized.size[::-1], preprocess.image_size, strict=True)
    )
    tensor: Tensor = transform(picture)
    return View(picture, tensor[None].contiguous(memory_format=torch.channels_last), (axes[0], axes[1]))


def _axis_of_input(pixels: int, resized: int, side: int) -> Axis:
    """The middle `side` pixels of a side that was resized from `pixels`; padding where there are fewer.

    The offsets round as torchvision's CenterCrop and timm's CenterCropOrPad do.
    """
    offset = -((side - resized) // 2) if resized < side else round((resized - side) / 2)
    step = pixels / resized
    return Axis((offset + 0.5) * step - 0.5, step)


def _chain(outer: Axis, inner: Axis) -> Axis:
    """Where tokens lie in the picture that lie at `inner` in the input."""
    return Axis(outer.origin + outer.step * inner.origin, outer.step * inner.step)


def _span(own: Axis, side: int) -> tuple[float, float]:
    """The first and the last place of the picture that the input shows, edges of pixels included."""
    return own.origin - own.step / 2, own.origin + own.step * (side - 0.5)


def _interpolation(axis: Axis, tokens: int, *, pixels: int, seen: tuple[float, float]) -> np.ndarray:
    """Each pixel as a weighted mean of tokens. Shape: (pixels, tokens)."""
    place = np.arange(pixels)
    token = np.clip((place - axis.origin) / axis.step, 0, tokens - 1)
    weights = np.maximum(0, 1 - np.abs(token[:, None] - np.arange(tokens)))
    weights[(place < seen[0]) | (place > seen[1])] = 0
    return weights
