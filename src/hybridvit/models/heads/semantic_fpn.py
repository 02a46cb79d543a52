"""Semantic FPN: a feature pyramid whose levels, brought to the finest one's size, are added up and classified pixel by pixel.

Source: Kirillov et al., arXiv 1901.02446, section 3; sizes as in PVT's segmentation code (whai362/PVT, fpn_r50.py).
Tensors: B batch, C channels, K classes, H rows, W columns of a level.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation, FeaturePyramidNetwork

from hybridvit.errors import ConfigError
from hybridvit.models.heads.features import Features
from hybridvit.models.heads.segmenter import Segmenter, classifier, initialise, resize


def semantic_fpn(
    backbone: str,
    *,
    num_classes: int,
    pyramid_width: int = 256,
    width: int = 128,
    head_drop_rate: float = 0.1,
    **backbone_args: Any,
) -> Segmenter:
    """A segmenter of `width` channels over a pyramid of `pyramid_width`."""
    features = Features(backbone, **backbone_args)
    return Segmenter(
        features,
        SemanticFPN(
            features.channels,
            features.strides,
            num_classes,
            pyramid_width=pyramid_width,
            width=width,
            drop_rate=head_drop_rate,
        ),
    )


class SemanticFPN(nn.Module):
    """Shape: [(B, C, H, W), ...], finest first -> logits (B, K, H, W) at the finest size.

    Each level is upsampled by 2 behind each of log2(its stride / the finest stride) 3x3 convolutions; a level that needs no
    upsampling has one convolution all the same.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        *,
        pyramid_width: int = 256,
        width: int = 128,
        drop_rate: float = 0.1,
    ) -> None:
        super().__init__()
        self.pyramid = FeaturePyramidNetwork(list(channels), pyramid_width)
        self.branches = nn.ModuleList(
            _branch(pyramid_width, width, _doublings(stride, strides[0])) for stride in strides
        )
        self.drop = nn.Dropout2d(drop_rate)
        self.classifier = classifier(width, num_classes)
        initialise(self.branches)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        levels = self.pyramid(OrderedDict((str(i), map_BCHW) for i, map_BCHW in enumerate(maps))).values()
        first, *others = (branch(level) for branch, level in zip(self.branches, levels, strict=True))
        total_BCHW = sum((resize(other, first.shape[2:]) for other in others), start=first)
        return self.classifier(self.drop(total_BCHW))


def _branch(width_in: int, width: int, doublings: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for step in range(max(1, doublings)):
        layers.append(Conv2dNormActivation(width if step else width_in, width, 3))
        if doublings:
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return nn.Sequential(*layers)


def _doublings(stride: int, finest: int) -> int:
    doublings = (stride // finest).bit_length() - 1
    if finest * 2**doublings != stride:
        raise ConfigError(f"Semantic FPN doubles its levels, but stride {stride} is not {finest} times a power of 2.")
    return doublings
