"""Feature maps for detection or segmentation, from any picture size: python examples/features.py [MODEL]"""

import sys

import timm
import torch
from torch import nn

import hybridvit  # noqa: F401  gives its names to timm


class Segmenter(nn.Module):
    """A class for every fourth pixel: the maps of all stages, brought to the finest grid and mixed.

    Shape: (B, 3, H, W) -> (B, num_classes, H // 4, W // 4).
    """

    def __init__(self, name: str, num_classes: int, width: int = 64) -> None:
        super().__init__()
        self.backbone = timm.create_model(name, features_only=True)
        channels = self.backbone.feature_info.channels()
        self.lateral = nn.ModuleList(nn.Conv2d(dim, width, 1) for dim in channels)
        self.classify = nn.Conv2d(width, num_classes, 1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        maps = [lateral(feature) for lateral, feature in zip(self.lateral, self.backbone(pictures), strict=True)]
        size = maps[0].shape[-2:]
        return self.classify(sum(nn.functional.interpolate(each, size=size, mode="bilinear") for each in maps))


if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "cvt_13"
    model = Segmenter(name, num_classes=21).eval()
    for index, info in enumerate(model.backbone.feature_info):
        print(f"stage {index}: {info['num_chs']} channels, stride {info['reduction']}")
    with torch.inference_mode():
        print(tuple(model(torch.randn(1, 3, 200, 320)).shape))
