"""Boxes that predictions are measured from: where they stand, which object each learns, how a difference is written.

Tensors: A anchors, G objects of a picture.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from hybridvit.kernels.detection import BoxCoder, Matcher
from hybridvit.models.heads.style import Style

BELOW, BETWEEN = Matcher.BELOW_LOW_THRESHOLD, Matcher.BETWEEN_THRESHOLDS
ASPECT_RATIOS = (0.5, 1.0, 2.0)
PADDED_TO = 32
OBJECTS_AT_ONCE = 64  # x 240,000 anchors x 4 bytes: 61 MB for a matrix of IoUs


class Anchors(nn.Module):
    """At each place of each level, boxes of three aspect ratios and of `scale` times the stride, in `octave_steps` sizes.

    Called as torchvision calls its AnchorGenerator; float32 at least, whatever autocast makes of the maps.
    """

    def __init__(self, strides: Sequence[int], *, scale: float, octave_steps: int, style: Style) -> None:
        super().__init__()
        self.strides, self.style = tuple(strides), style
        self.cells_A4 = []  # around 0, one tensor per level; not buffers: float64 until they are used
        ratios = torch.tensor(ASPECT_RATIOS, dtype=torch.float64).sqrt()
        for stride in strides:
            sizes = [scale * stride * 2 ** (step / octave_steps) for step in range(octave_steps)]
            sizes_ = torch.tensor([int(size) for size in sizes] if style.round_anchors else sizes, dtype=torch.float64)
            half_w = (sizes_ / ratios[:, None]).flatten() / 2
            half_h = (sizes_ * ratios[:, None]).flatten() / 2
            cell_A4 = torch.stack((-half_w, -half_h, half_w, half_h), dim=1)
            self.cells_A4.append(cell_A4.round() if style.round_anchors else cell_A4)

    def num_anchors_per_location(self) -> list[int]:
        return [len(cell_A4) for cell_A4 in self.cells_A4]

    def forward(self, images: ImageList, maps: Sequence[Tensor]) -> list[Tensor]:
        """Of each picture, all levels after one another. Shape: [(A, 4), ...]."""
        return [torch.cat(self.by_level(images, maps))] * len(images.image_sizes)

    def by_level(self, images: ImageList, maps: Sequence[Tensor]) -> list[Tensor]:
        device = maps[0].device
        dtype = torch.float64 if maps[0].dtype == torch.float64 else torch.float32
        rows, columns = images.tensors.shape[-2:]
        levels = []
        for map_BCHW, stride, cell_A4 in zip(maps, self.strides, self.cells_A4, strict=True):
            height, width = map_BCHW.shape[-2:]
            step_y, step_x = (stride, stride) if self.style.nominal_strides else (rows // height, columns // width)
            y = torch.arange(height, device=device)[:, None].expand(height, width).flatten() * step_y
            x = torch.arange(width, device=device).repeat(height) * step_x
            shifts_N14 = torch.stack((x, y, x, y), dim=1)[:, None]
            levels.append((shifts_N14 + cell_A4.to(device, dtype)).flatten(0, 1))
        return levels

    def inside(self, size: tuple[int, int], maps: Sequence[Tensor]) -> Tensor | None:
        """Which anchors stand on a picture of `size` that may be padded; None: all. Shape: (A,)."""
        if not self.style.ignore_padding:
            return None
        rows, columns = (-(-pixels // PADDED_TO) * PADDED_TO for pixels in size)
        flags = []
        for map_BCHW, stride, cell_A4 in zip(maps, self.strides, self.cells_A4, strict=True):
            height, width = map_BCHW.shape[-2:]
            flag_HW = torch.zeros(height, width, dtype=torch.bool, device=map_BCHW.device)
            flag_HW[: -(-rows // stride), : -(-columns // stride)] = True
            flags.append(flag_HW.flatten().repeat_interleave(len(cell_A4)))
        return torch.cat(flags)


def match(
    boxes_G4: Tensor,
    anchors_A4: Tensor,
    inside_A: Tensor | None,
    *,
    high: float,
    low: float,
    least: float,
    style: Style,
) -> Tensor:
    """For each anchor the number of the object that it learns; BELOW: none, BETWEEN: to be ignored. Shape: (A,), int64.

    An anchor learns the object of the largest IoU, from `high` on; below `low` it is background. Each object's best anchors
    learn too, from an IoU of `least` on. Objects are taken 64 at a time: the matrix of all IoUs may not fit the memory.
    """
    num_anchors = len(anchors_A4)
    best_A = anchors_A4.new_full((num_anchors,), -1.0)
    object_A = torch.zeros(num_anchors, dtype=torch.int64, device=anchors_A4.device)
    rescued_A = torch.full_like(object_A, BELOW)
    for start in range(0, len(boxes_G4), OBJECTS_AT_ONCE):
        iou_GA = box_iou(boxes_G4[start : start + OBJECTS_AT_ONCE], anchors_A4)
        if inside_A is not None:
            iou_GA.masked_fill_(~inside_A, -1.0)
        iou_A, chunk_object_A = iou_GA.max(dim=0)
        better_A = iou_A > best_A
        best_A = torch.where(better_A, iou_A, best_A)
        object_A = torch.where(better_A, chunk_object_A + start, object_A)
        best_G1 = iou_GA.max(dim=1, keepdim=True).values
        object_, anchor = torch.where((iou_GA == best_G1) & (best_G1 >= least))
        rescued_A.scatter_reduce_(0, anchor, object_ + start, "amax")  # of several objects, the last
    matched_A = torch.where(best_A >= high, object_A, torch.where(best_A < low, BELOW, BETWEEN))
    matched_A = torch.where(rescued_A < 0, matched_A, rescued_A if style.low_quality == "that_box" else object_A)
    return matched_A if inside_A is None else matched_A.masked_fill(~inside_A, BETWEEN)


class Coder(BoxCoder):
    """torchvision's, which may clamp width and height from below as well."""

    def __init__(self, weights: tuple[float, float, float, float], style: Style) -> None:
        super().__init__(weights)
        self.clamp_both_sides = style.clamp_both_sides

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        if self.clamp_both_sides:
            lowest = rel_codes.new_tensor(
                [-torch.inf, -torch.inf] + [-self.bbox_xform_clip * w for w in self.weights[2:]]
            )
            rel_codes = torch.maximum(rel_codes.unflatten(-1, (-1, 4)), lowest).flatten(-2)
        return super().decode_single(rel_codes, boxes)
