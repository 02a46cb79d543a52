"""Large pictures in tiles: every object once, whole, in the picture's own pixels."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import hybridvit
from hybridvit.errors import ConfigError
from hybridvit.inference.predictor import Predictor
from hybridvit.inference.tiles import Tiles

SIDE, TILE = (300, 420), 128


class FindsWhite(nn.Module):
    """A detector of white rectangles: the box and mask around the white pixels of each of three shades' marks."""

    task, num_classes, label_names = "detection", 1, ("mark",)

    def __init__(self, masks: bool) -> None:
        super().__init__()
        self.anything = nn.Parameter(torch.zeros(1))
        self.masks = masks
        self.pretrained_cfg = {"input_size": (3, TILE, TILE), "mean": (0.0,) * 3, "std": (1.0,) * 3, "crop_pct": 1.0}

    def forward(self, x_BCHW: Tensor) -> list[dict[str, Tensor]]:
        found = []
        for x_CHW in x_BCHW:
            boxes, scores = [], []
            for shade in (1.0, 0.8, 0.6):
                rows, columns = torch.where((x_CHW[0] - shade).abs() < 0.02)
                if len(rows):
                    boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                    area = (boxes[-1][2] - boxes[-1][0]) * (boxes[-1][3] - boxes[-1][1])
                    scores.append(1.0 - float(area) / 1e5)  # the smaller, the surer: a piece beats its whole
            each = {
                "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                "scores": torch.tensor(scores),
                "labels": torch.zeros(len(boxes), dtype=torch.int64),
            }
            if self.masks:
                each["masks"] = torch.ones(len(boxes), 1, 28, 28)
            found.append(each)
        return found


def picture() -> tuple[Image.Image, list[list[int]]]:
    """Marks on the borders of tiles, at a corner of four, and at the picture's own border."""
    pixels = np.zeros((*SIDE, 3), np.uint8)
    boxes = [[110, 20, 135, 40], [95, 95, 118, 120], [400, 280, 420, 300]]
    for (left, top, right, bottom), shade in zip(boxes, (255, 204, 153), strict=True):
        pixels[top:bottom, left:right] = shade
    return Image.fromarray(pixels), boxes


@pytest.mark.parametrize("masks", [False, True])
def test_an_object_that_a_border_cuts_is_found_once_and_whole(masks: bool) -> None:
    shown, boxes = picture()
    tiles = Tiles(Predictor(FindsWhite(masks), device="cpu"), side=TILE, overlap=0.25)
    found = tiles.said(shown)
    assert sorted(found.boxes_N4.round().astype(int).tolist()) == sorted(boxes)
    assert found.size == SIDE
    assert list(found.scores_N) == sorted(found.scores_N, reverse=True)
    if masks:
        from hybridvit.data.objects import decode

        assert found.outlines is not None
        for mask, (left, top, right, bottom) in zip(
            decode(found.outlines, SIDE), found.boxes_N4.round().astype(int).tolist(), strict=True
        ):
            assert mask[top:bottom, left:right].float().mean() > 0.8
            assert mask.sum() < 1.3 * (right - left) * (bottom - top)


def test_tiles_cover_the_picture_and_share_at_least_the_overlap() -> None:
    tiles = Tiles(Predictor(FindsWhite(False), device="cpu"), side=100, overlap=0.2)
    for length in (60, 100, 101, 180, 181, 500, 777):
        starts = tiles._starts(length)
        assert starts[0] == 0
        assert starts[-1] == max(0, length - 100)
        assert all(0 < b - a <= 80 for a, b in pairwise(starts))


def test_a_small_picture_is_one_tile_and_nothing_found_is_no_error() -> None:
    tiles = Tiles(Predictor(FindsWhite(True), device="cpu"), side=512)
    found = tiles.said(Image.new("RGB", (60, 40)))
    assert found.boxes_N4.shape == (0, 4)
    (row,) = tiles.predict([Image.new("RGB", (60, 40))])
    assert row.ok
    assert row.said == {"predictions": []}


def test_a_picture_that_cannot_be_read_costs_its_row_only() -> None:
    shown, boxes = picture()
    rows = Tiles(Predictor(FindsWhite(False), device="cpu", top_k=9), side=TILE).predict([b"no picture", shown])
    assert [row.ok for row in rows] == [False, True]
    assert len(rows[1].said["predictions"]) == len(boxes)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("cmt_nano", {"side": 128}, "Tiles are for detectors; this model is made for classification"),
        ("retinanet_cmt_nano", {"side": 8}, "A tile has 32 pixels at least"),
        ("retinanet_cmt_nano", {"side": 64, "overlap": 1.0}, "overlap of 0 to 0.9; found 64 and 1"),
    ],
)
def test_what_makes_no_sense_is_refused(model: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Tiles(Predictor(hybridvit.create_model(model, num_classes=2), device="cpu"), **options)
