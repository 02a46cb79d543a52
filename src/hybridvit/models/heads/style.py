"""Where torchvision and mmdetection do the same thing differently: as data. The code of the heads is one.

Source: torchvision 0.29, torchvision/models/detection; mmdetection 2 and its 1x configurations, which the papers used.
"""

from dataclasses import dataclass
from typing import Literal

from hybridvit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Style:
    loss_over: Literal["batch", "picture"]
    """RetinaNet's losses: summed and divided by the batch's positives (a picture counts one at least), or each picture's by
    its own, then averaged."""
    candidates: Literal["anchors", "pairs"]
    """RetinaNet keeps, before NMS, the 1000 anchors of a level by their best class, or its 1000 pairs of anchor and class."""
    retinanet_detections: int
    """Kept of a picture."""
    relu_between: bool
    """Between the levels that strided convolutions add to the pyramid (P6, P7)."""
    round_anchors: bool
    """Whole sizes and corners."""
    nominal_strides: bool
    """Anchors stand a level's stride apart; otherwise the batch's size over the map's, rounded down."""
    ignore_padding: bool
    """Anchors beyond the picture's own size, rounded up to 32, are ignored; otherwise they are negatives."""
    low_quality: Literal["that_box", "own_box"]
    """An anchor that is a box's best, below the threshold, learns that box; or the box that is the anchor's own best."""
    rpn_low_quality_iou: float
    """From which IoU on it does so in the RPN."""
    clamp_both_sides: bool
    """Of a predicted box's logarithm of width and height: from below as well."""
    box_beta: float
    """Of the smooth L1 loss in Mask R-CNN; 0 is L1."""
    rpn_counts_one: bool
    """The RPN's box loss counts a picture's positives, and its negatives, as one where there are none."""
    train_proposals: int
    """Kept of a picture in training, after NMS."""
    roi_sampling: int
    """Samples per side of a bin; 0: as many as fit."""
    roi_aligned: bool
    """RoIAlign places pixels' centres at halves."""
    binary_masks: bool
    """Mask targets are 0 or 1; otherwise as interpolated."""
    mmdetection_init: bool
    """Xavier's uniform in pyramid, fc6 and fc7, normal in the predictor; otherwise the framework's and He's uniform."""


STYLES = {
    "mmdetection": Style(
        loss_over="batch",
        candidates="anchors",
        retinanet_detections=100,
        relu_between=False,
        round_anchors=False,
        nominal_strides=True,
        ignore_padding=True,
        low_quality="that_box",
        rpn_low_quality_iou=0.3,
        clamp_both_sides=True,
        box_beta=0.0,
        rpn_counts_one=True,
        train_proposals=1000,
        roi_sampling=0,
        roi_aligned=True,
        binary_masks=True,
        mmdetection_init=True,
    ),
    "torchvision": Style(
        loss_over="picture",
        candidates="pairs",
        retinanet_detections=300,
        relu_between=True,
        round_anchors=True,
        nominal_strides=False,
        ignore_padding=False,
        low_quality="own_box",
        rpn_low_quality_iou=0.0,
        clamp_both_sides=False,
        box_beta=1 / 9,
        rpn_counts_one=False,
        train_proposals=2000,
        roi_sampling=2,
        roi_aligned=False,
        binary_masks=False,
        mmdetection_init=False,
    ),
}


def style_called(name: str) -> Style:
    """Raises: ConfigError for another name."""
    if name not in STYLES:
        raise ConfigError(f"style {name!r} is unknown. Known: {', '.join(STYLES)}.")
    return STYLES[name]
