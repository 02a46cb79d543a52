"""What made a pixel's class: occlusion of a segmenter, seen through one pixel."""

import numpy as np
import torch
from PIL import Image
from torch import nn

import hybridvit
from hybridvit.config import Preprocess
from hybridvit.models.heads.segmenter import AtPixel


class Local(nn.Module):
    """A segmenter whose answer for a pixel depends on the 5 x 5 pixels around it."""

    num_classes, label_names = 2, ("dark", "bright")
    preprocess = Preprocess(image_size=(64, 64), crop_pct=1.0, crop_mode="squash")

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 3, 5, 5))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        y_B1HW = torch.conv2d(x_BCHW, self.weight, padding=2)
        return torch.cat((-y_B1HW, y_B1HW), dim=1)


def test_what_made_a_pixels_class_lies_around_the_pixel() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    found = hybridvit.explain(AtPixel(Local(), x=44, y=20), picture, method="occlusion")
    assert list(found.class_names) == ["dark", "bright"]
    map_rc = np.abs(found.map_hrc[0])
    scale = 64 / map_rc.shape[0]
    assert map_rc[int(20 / scale), int(44 / scale)] > 0
    rows, columns = np.nonzero(map_rc)
    assert np.abs(scale * (rows + 0.5) - 20).max() < 16
    assert np.abs(scale * (columns + 0.5) - 44).max() < 16


def test_a_pixels_values_are_the_segmenters() -> None:
    model = hybridvit.create_model("semantic_fpn_cmt_nano", num_classes=3).eval()
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(AtPixel(model, x=5, y=9)(x), model(x)[:, :, 9, 5])
