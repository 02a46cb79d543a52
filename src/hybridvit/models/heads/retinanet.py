"""RetinaNet (Lin et al., arXiv 1708.02002) over any backbone, in torchvision's or mmdetection's arithmetic.

Tensors: B batch, C channels, H rows, W columns, A anchors of a picture, K classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import batched_nms, clip_boxes_to_image, sigmoid_focal_loss

from hybridvit.errors import ConfigError
from hybridvit.models.heads.anchors import BETWEEN, Anchors, Coder, match
from hybridvit.models.heads.pyramid import Detector, Pyramid, lift
from hybridvit.models.heads.style import style_called

Sizes = Sequence[tuple[int, int]]
"""Rows and columns of each picture of a batch, without its padding."""
Detections = dict[str, Tensor]
"""boxes (N, 4) as left, top, right, bottom, scores (N,) falling, labels (N,) from 0."""

STRIDES = (8, 16, 32, 64, 128)
OCTAVE_STEPS = 3
POSITIVE_IOU, NEGATIVE_IOU = 0.5, 0.4
CANDIDATES, SCORE_THRESHOLD, NMS_IOU = 1000, 0.05, 0.5


class RetinaNet(Detector):
    """One convolutional head over all levels of a pyramid, that says of each anchor its class and its box.

    Shape: (B, in_chans, H, W), padded at the right and bottom -> in evaluation, detections of each picture in pixels of the
    batch; in training, with targets, two losses by name: classification, boxes.

    Args:
        backbone: see `Pyramid`; `batchnorm` and backbone_args likewise.
        num_classes: real ones; there is no background class.
        style: "mmdetection", what the papers used, or "torchvision".
        strides: of the levels.
        channels, head_convs, head_norm: width of pyramid and head, its convolutions (at most 4), with GroupNorm or without.
        anchor_scale: the smallest anchor's side, in strides of its level.
    """

    def __init__(
        self,
        backbone: str,
        *,
        num_classes: int,
        style: str = "mmdetection",
        strides: Sequence[int] = STRIDES,
        channels: int = 256,
        head_convs: int = 4,
        head_norm: bool = False,
        anchor_scale: float = 4.0,
        **pyramid_args: Any,
    ) -> None:
        super().__init__()
        if not 1 <= head_convs <= 4:
            raise ConfigError(f"head_convs must lie between 1 and 4, found {head_convs}.")
        self.num_classes, self.style = num_classes, style_called(style)
        self.pyramid = Pyramid(backbone, strides=strides, channels=channels, style=self.style, **pyramid_args)
        self.anchors = Anchors(self.pyramid.strides, scale=anchor_scale, octave_steps=OCTAVE_STEPS, style=self.style)
        num_anchors = self.anchors.num_anchors_per_location()[0]
        self.head = RetinaNetHead(channels, num_anchors, num_classes, norm_layer=group_norm if head_norm else None)
        for tower in (self.head.classification_head, self.head.regression_head):
            tower.conv = tower.conv[:head_convs]
        self.coder = Coder((1.0, 1.0, 1.0, 1.0), self.style)

    def forward(
        self, images_BCHW: Tensor, sizes: Sizes | None = None, targets: Sequence[dict[str, Tensor]] | None = None
    ) -> list[Detections] | dict[str, Tensor]:
        """sizes: by default, no picture is padded. targets: boxes and labels (from 0) of each picture."""
        maps, logits_BAK, deltas_BA4 = self.dense(images_BCHW)
        images = as_image_list(images_BCHW, sizes)
        if targets is not None:
            return self.losses(images, maps, logits_BAK, deltas_BA4, targets)
        return self.detections(images, maps, logits_BAK, deltas_BA4)

    def dense(self, images_BCHW: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Everything before boxes are chosen: the levels' maps, logits and box deltas of all anchors."""
        maps = list(self.pyramid(images_BCHW).values())
        said = self.head(maps)
        return maps, lift(said["cls_logits"]), lift(said["bbox_regression"])

    def losses(
        self,
        images: ImageList,
        maps: list[Tensor],
        logits_BAK: Tensor,
        deltas_BA4: Tensor,
        targets: Sequence[dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        anchors_A4 = torch.cat(self.anchors.by_level(images, maps))
        classification, boxes, positives = [], [], []
        for logits_AK, deltas_A4, target, size in zip(logits_BAK, deltas_BA4, targets, images.image_sizes, strict=True):
            inside_A = self.anchors.inside(size, maps)
            matched_A = match(
                target["boxes"],
                anchors_A4,
                inside_A,
                high=POSITIVE_IOU,
                low=NEGATIVE_IOU,
                least=0.0,
                style=self.style,
            )
            chosen = torch.where(matched_A >= 0)[0]
            object_ = matched_A[chosen]
            wanted_AK = torch.zeros_like(logits_AK)
            wanted_AK[chosen, target["labels"][object_]] = 1.0
            counts = matched_A != BETWEEN
            classification.append(sigmoid_focal_loss(logits_AK[counts], wanted_AK[counts], reduction="sum"))
            wanted = self.coder.encode_single(target["boxes"][object_], anchors_A4[chosen])
            boxes.append(F.l1_loss(deltas_A4[chosen], wanted, reduction="sum"))
            positives.append(max(1, len(chosen)))
        return {
            "classification": self._mean(classification, positives),
            "boxes": self._mean(boxes, positives),
        }

    def _mean(self, losses: list[Tensor], positives: list[int]) -> Tensor:
        if self.style.loss_over == "batch":
            return torch.stack(losses).sum() / sum(positives)
        total = losses[0] / positives[0]
        for loss, count in zip(losses[1:], positives[1:], strict=True):
            total = total + loss / count
        return total / len(losses)

    def detections(
        self, images: ImageList, maps: list[Tensor], logits_BAK: Tensor, deltas_BA4: Tensor
    ) -> list[Detections]:
        anchors = self.anchors.by_level(images, maps)
        counts = [len(level_A4) for level_A4 in anchors]
        found = []
        for logits_AK, deltas_A4, size in zip(logits_BAK, deltas_BA4, images.image_sizes, strict=True):
            boxes, scores, labels = [], [], []
            for logits, deltas, level_A4 in zip(logits_AK.split(counts), deltas_A4.split(counts), anchors, strict=True):
                level_scores, anchor, label = self._candidates(logits.sigmoid())
                decoded = self.coder.decode_single(deltas[anchor], level_A4[anchor])
                boxes.append(clip_boxes_to_image(decoded, size))
                scores.append(level_scores)
                labels.append(label)
            found.append(keep_best(boxes, scores, labels, NMS_IOU, self.style.retinanet_detections))
        return found

    def _candidates(self, scores_AK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores above the threshold, with anchor and label, of one level."""
        if self.style.candidates == "anchors":
            kept = scores_AK.max(dim=1).values.topk(min(CANDIDATES, len(scores_AK))).indices
            row, label = torch.where(scores_AK[kept] > SCORE_THRESHOLD)
            return scores_AK[kept[row], label], kept[row], label
        scores = scores_AK.flatten()
        pair = torch.where(scores > SCORE_THRESHOLD)[0]
        best, index = scores[pair].topk(min(CANDIDATES, len(pair)))
        pair = pair[index]
        return best, pair // scores_AK.shape[1], pair % scores_AK.shape[1]


def keep_best(
    boxes: Sequence[Tensor], scores: Sequence[Tensor], labels: Sequence[Tensor], iou: float, most: int
) -> Detections:
    """NMS within each class, then the best of a picture."""
    boxes_N4, scores_N, labels_N = torch.cat(list(boxes)), torch.cat(list(scores)), torch.cat(list(labels))
    kept = batched_nms(boxes_N4, scores_N, labels_N, iou)[:most]
    return {"boxes": boxes_N4[kept], "scores": scores_N[kept], "labels": labels_N[kept]}


def as_image_list(images_BCHW: Tensor, sizes: Sizes | None) -> ImageList:
    rows, columns = images_BCHW.shape[-2:]
    return ImageList(images_BCHW, list(sizes) if sizes is not None else [(rows, columns)] * len(images_BCHW))


def group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, channels // 4), channels)
