"""UPerNet: the coarsest map pooled over grids of several sizes, then a pyramid whose levels are joined and classified.

Source: Xiao et al., arXiv 1807.10221; sizes as in Swin's segmentation code (512 channels, grids of 1, 2, 3, 6), where it is
trained beside a fully convolutional head on the map before the last.
Tensors: B batch, C channels, K classes, H rows, W columns of a level.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from hybridvit.errors import ConfigError
from hybridvit.models.heads.features import Features
from hybridvit.models.heads.segmenter import Segmenter, classifier, initialise, resize

GRIDS = (1, 2, 3, 6)


def upernet(
    backbone: str,
    *,
    num_classes: int,
    width: int = 512,
    auxiliary_width: int = 256,
    head_drop_rate: float = 0.1,
    **backbone_args: Any,
) -> Segmenter:
    """A segmenter of `width` channels with an auxiliary head of `auxiliary_width`."""
    features = Features(backbone, **backbone_args)
    return Segmenter(
        features,
        UPerNet(features.channels, num_classes, width=width, drop_rate=head_drop_rate),
        FCN(features.channels, num_classes, width=auxiliary_width, drop_rate=head_drop_rate),
    )


class UPerNet(nn.Module):
    """Shape: [(B, C, H, W), ...], finest first -> logits (B, K, H, W) at the finest size."""

    def __init__(self, channels: Sequence[int], num_classes: int, *, width: int = 512, drop_rate: float = 0.1) -> None:
        super().__init__()
        *finer, coarsest = channels
        self.pools = nn.ModuleList(
            nn.Sequential(GridPool(grid), Conv2dNormActivation(coarsest, width, 1)) for grid in GRIDS
        )
        self.bottleneck = Conv2dNormActivation(coarsest + len(GRIDS) * width, width, 3)
        self.lateral = nn.ModuleList(Conv2dNormActivation(channels_in, width, 1) for channels_in in finer)
        self.smooth = nn.ModuleList(Conv2dNormActivation(width, width, 3) for _ in finer)
        self.join = Conv2dNormActivation(len(channels) * width, width, 3)
        self.drop = nn.Dropout2d(drop_rate)
        self.classifier = classifier(width, num_classes)
        initialise(self)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        *finer, coarsest = maps
        if self.training and coarsest.shape[0] == 1:
            raise ConfigError(
                "UPerNet pools a map to a single pixel, and BatchNorm learns from no fewer than two of them: train it on at "
                "least 2 pictures at a time (device_batch)."
            )
        pooled = [resize(pool(coarsest), coarsest.shape[2:]) for pool in self.pools]
        levels = [self.bottleneck(torch.cat((coarsest, *pooled), dim=1))]
        for map_BCHW, lateral in zip(reversed(finer), reversed(self.lateral), strict=True):
            levels.insert(0, lateral(map_BCHW) + resize(levels[0], map_BCHW.shape[2:]))
        smooth = [layer(level) for layer, level in zip(self.smooth, levels[:-1], strict=True)] + levels[-1:]
        joined_BCHW = self.join(torch.cat([resize(level, smooth[0].shape[2:]) for level in smooth], dim=1))
        return self.classifier(self.drop(joined_BCHW))


class GridPool(nn.Module):
    """Adaptive average pooling to `grid` x `grid` cells, in a graph as sums with weights.

    Exporters write the cells of the size that they see as constants: at any other, the answer would be wrong in silence.
    """

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if not torch.compiler.is_exporting():
            return F.adaptive_avg_pool2d(x_BCHW, self.grid)
        x_BCHg = F.linear(x_BCHW, self.shares(x_BCHW.shape[3], x_BCHW))
        shares_gH1 = self.shares(x_BCHW.shape[2], x_BCHW)[..., None]
        return (shares_gH1 * x_BCHg[:, :, None]).sum(dim=3)  # not a product: it would be written for one number of rows

    def shares(self, pixels: int, like: Tensor) -> Tensor:
        """Of each cell, what each pixel adds to its mean. Shape: (cells, pixels)."""
        cells, places = torch.arange(self.grid, device=like.device)[:, None], torch.arange(pixels, device=like.device)
        begin, end = cells * pixels // self.grid, ((cells + 1) * pixels + self.grid - 1) // self.grid
        inside = ((places >= begin) & (places < end)).to(like.dtype)
        return inside / inside.sum(dim=1, keepdim=True)


class FCN(nn.Module):
    """One 3x3 convolution and a classifier, on the map before the last.

    Shape: [(B, C, H, W), ...] -> logits (B, K, H, W) at that map's size. Source: Long et al., arXiv 1411.4038.
    """

    def __init__(self, channels: Sequence[int], num_classes: int, *, width: int = 256, drop_rate: float = 0.1) -> None:
        super().__init__()
        self.level = max(len(channels) - 2, 0)
        self.conv = Conv2dNormActivation(channels[self.level], width, 3)
        self.drop = nn.Dropout2d(drop_rate)
        self.classifier = classifier(width, num_classes)
        initialise(self)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return self.classifier(self.drop(self.conv(maps[self.level])))
