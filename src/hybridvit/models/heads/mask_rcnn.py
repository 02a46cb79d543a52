"""Mask R-CNN (He et al., arXiv 1703.06870) over any backbone, in torchvision's or mmdetection's arithmetic.

Inside, 0 is the background and the real classes follow, as torchvision has it; what enters and leaves counts from 0.

Tensors: B batch, C channels, H rows, W columns, N regions (proposals) of all pictures, K classes with the background, M side
of a mask.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import roi_align
from torchvision.ops.poolers import LevelMapper

from hybridvit.models.heads.anchors import BETWEEN, Anchors, Coder, match
from hybridvit.models.heads.pyramid import Detector, Pyramid, lift
from hybridvit.models.heads.retinanet import Detections, Sizes, as_image_list
from hybridvit.models.heads.style import Style, style_called

STRIDES = (4, 8, 16, 32)
RPN_HIGH_IOU, RPN_LOW_IOU, RPN_NMS_IOU = 0.7, 0.3, 0.7
RPN_SAMPLES, RPN_POSITIVE_SHARE = 256, 0.5
CANDIDATES = {"training": 2000, "testing": 1000}
PROPOSALS = 1000
BOX_IOU, BOX_SAMPLES, BOX_POSITIVE_SHARE = 0.5, 512, 0.25
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
SCORE_THRESHOLD, NMS_IOU, DETECTIONS = 0.05, 0.5, 100
BOX_SIDE, MASK_SIDE = 7, 14


class MaskRCNN(Detector):
    """Proposals from every level of a pyramid; of each, its class, its box and its mask.

    Shape: (B, in_chans, H, W), padded at the right and bottom -> in evaluation, detections of each picture in pixels of the
    batch, with `masks` (N, 1, 28, 28), the probabilities over each box; in training, with targets, five losses by name:
    objectness, proposals, classification, boxes, masks.

    Args: as RetinaNet's, and
        hidden: width of the two layers that read a region.
        mask_convs: convolutions of the mask head.
        anchor_scale: the anchors' side, in strides of their level.
    """

    def __init__(
        self,
        backbone: str,
        *,
        num_classes: int,
        style: str = "mmdetection",
        strides: Sequence[int] = STRIDES,
        channels: int = 256,
        hidden: int = 1024,
        mask_convs: int = 4,
        anchor_scale: float = 8.0,
        **pyramid_args: Any,
    ) -> None:
        super().__init__()
        self.num_classes, self.style = num_classes, style_called(style)
        self.pyramid = Pyramid(
            backbone, strides=strides, channels=channels, pooled=True, style=self.style, **pyramid_args
        )
        anchors = Anchors(self.pyramid.strides, scale=anchor_scale, octave_steps=1, style=self.style)
        self.rpn = Proposals(anchors, RPNHead(channels, anchors.num_anchors_per_location()[0]), self.style)
        self.roi_heads = Regions(
            strides, channels=channels, hidden=hidden, mask_convs=mask_convs, num_classes=num_classes, style=self.style
        )

    def forward(
        self, images_BCHW: Tensor, sizes: Sizes | None = None, targets: Sequence[dict[str, Tensor]] | None = None
    ) -> list[Detections] | dict[str, Tensor]:
        """sizes: by default, no picture is padded. targets: boxes, labels (from 0) and masks (G, H, W) of each picture."""
        maps = {level: lift(map_BCHW) for level, map_BCHW in self.pyramid(images_BCHW).items()}
        images = as_image_list(images_BCHW, sizes)
        counted = None if targets is None else [{**target, "labels": target["labels"] + 1} for target in targets]
        proposals, rpn_losses = self.rpn(images, maps, counted)
        found, losses = self.roi_heads(maps, proposals, images.image_sizes, counted)
        if targets is not None:
            return {"objectness": rpn_losses["loss_objectness"], "proposals": rpn_losses["loss_rpn_box_reg"], **losses}
        return [{**each, "labels": each["labels"] - 1} for each in found]

    def dense(self, images_BCHW: Tensor) -> Any:
        """The work of one picture with full counts: everything on the maps, and the heads on 1000 boxes and 100 masks."""
        maps = self.pyramid(images_BCHW)
        regions = maps["0"].new_zeros(PROPOSALS, self.pyramid.channels, BOX_SIDE, BOX_SIDE)
        masks = maps["0"].new_zeros(DETECTIONS, self.pyramid.channels, MASK_SIDE, MASK_SIDE)
        heads = self.roi_heads
        said = heads.box_predictor(heads.box_head(regions)), heads.mask_predictor(heads.mask_head(masks))
        return self.rpn.head(list(maps.values())), *said


class Proposals(RegionProposalNetwork):
    """torchvision's RPN, whose matching, box coder and loss follow the style."""

    def __init__(self, anchors: Anchors, head: nn.Module, style: Style) -> None:
        super().__init__(
            anchors,
            head,
            RPN_HIGH_IOU,
            RPN_LOW_IOU,
            RPN_SAMPLES,
            RPN_POSITIVE_SHARE,
            CANDIDATES,
            {"training": style.train_proposals, "testing": PROPOSALS},
            RPN_NMS_IOU,
        )
        self.box_coder = Coder((1.0, 1.0, 1.0, 1.0), style)
        self.style = style

    def forward(
        self, images: ImageList, features: dict[str, Tensor], targets: Any = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        if targets is not None:  # the matching below is not told of sizes
            maps = list(features.values())
            targets = [
                {**target, "inside": self.anchor_generator.inside(size, maps)}
                for target, size in zip(targets, images.image_sizes, strict=True)
            ]
        return super().forward(images, features, targets)

    def assign_targets_to_anchors(self, anchors: list[Tensor], targets: Any) -> tuple[list[Tensor], list[Tensor]]:
        """Of each anchor 1 (object), 0 (background) or -1 (ignored), and its object's box."""
        labels, boxes = [], []
        for anchors_A4, target in zip(anchors, targets, strict=True):
            matched_A = match(
                target["boxes"],
                anchors_A4,
                target["inside"],
                high=RPN_HIGH_IOU,
                low=RPN_LOW_IOU,
                least=self.style.rpn_low_quality_iou,
                style=self.style,
            )
            labels.append((matched_A >= 0).float() - (matched_A == BETWEEN).float())
            has_objects = len(target["boxes"]) > 0
            boxes.append(target["boxes"][matched_A.clamp(min=0)] if has_objects else torch.zeros_like(anchors_A4))
        return labels, boxes

    def compute_loss(
        self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor], regression_targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        positive, negative = self.fg_bg_sampler(labels)
        least = 1 if self.style.rpn_counts_one else 0
        count = sum(max(int(mask.sum()), least) for mask in (*positive, *negative))
        chosen = torch.where(torch.cat(positive))[0]
        sampled = torch.cat((chosen, torch.where(torch.cat(negative))[0]))
        box_loss = F.smooth_l1_loss(
            pred_bbox_deltas[chosen],
            torch.cat(list(regression_targets))[chosen],
            beta=self.style.box_beta,
            reduction="sum",
        )
        objectness_loss = F.binary_cross_entropy_with_logits(
            objectness.flatten()[sampled], torch.cat(labels)[sampled].to(objectness.dtype), reduction="sum"
        )
        return objectness_loss / count, box_loss / count


class Regions(RoIHeads):
    """torchvision's RoI heads, whose pooling, losses and mask targets follow the style."""

    def __init__(
        self, strides: Sequence[int], *, channels: int, hidden: int, mask_convs: int, num_classes: int, style: Style
    ) -> None:
        box_head = TwoMLPHead(channels * BOX_SIDE**2, hidden)
        predictor = FastRCNNPredictor(hidden, num_classes + 1)
        if style.mmdetection_init:
            for layer in (box_head.fc6, box_head.fc7):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
            for layer, std in ((predictor.cls_score, 0.01), (predictor.bbox_pred, 0.001)):
                nn.init.normal_(layer.weight, std=std)
                nn.init.zeros_(layer.bias)
        super().__init__(
            None,
            box_head,
            predictor,
            BOX_IOU,
            BOX_IOU,
            BOX_SAMPLES,
            BOX_POSITIVE_SHARE,
            BOX_WEIGHTS,
            SCORE_THRESHOLD,
            NMS_IOU,
            DETECTIONS,
            mask_head=MaskRCNNHeads(channels, (channels,) * mask_convs, 1),
            mask_predictor=MaskRCNNPredictor(channels, channels, num_classes + 1),
        )
        self.box_coder = Coder(BOX_WEIGHTS, style)
        self.strides, self.style = tuple(strides), style
        self.level_of = LevelMapper(int(math.log2(strides[0])), int(math.log2(strides[-1])))

    def has_mask(self) -> bool:
        return True

    def pool(self, maps: dict[str, Tensor], boxes: list[Tensor], side: int) -> Tensor:
        """Each region's features, from the level of its size. Shape: (N, C, side, side)."""
        picture = torch.cat([torch.full_like(each[:, :1], i) for i, each in enumerate(boxes)])
        regions_N5 = torch.cat((picture, torch.cat(boxes)), dim=1)
        level_N = self.level_of(boxes)
        pooled = maps["0"].new_zeros(len(regions_N5), maps["0"].shape[1], side, side)
        for level, stride in enumerate(self.strides):
            here = torch.where(level_N == level)[0]
            pooled[here] = self._roi_align(maps[str(level)], regions_N5[here], side, 1 / stride)
        return pooled

    def _roi_align(self, maps: Tensor, regions_N5: Tensor, side: int, scale: float) -> Tensor:
        return roi_align(maps, regions_N5, side, scale, self.style.roi_sampling, self.style.roi_aligned)

    def forward(
        self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: Any, targets: Any = None
    ) -> tuple[list[Detections], dict[str, Tensor]]:
        if targets is not None:
            return [], self.losses(features, proposals, targets)
        logits, deltas = self._boxes(features, proposals)
        found = [
            {"boxes": boxes, "scores": scores, "labels": labels}
            for boxes, scores, labels in zip(
                *self.postprocess_detections(logits, deltas, proposals, image_shapes), strict=True
            )
        ]
        labels = torch.cat([each["labels"] for each in found])
        masks = self._masks(features, [each["boxes"] for each in found], labels).sigmoid()[:, None]
        for each, masks_N1MM in zip(found, masks.split([len(each["labels"]) for each in found]), strict=True):
            each["masks"] = masks_N1MM
        return found, {}

    def losses(self, maps: dict[str, Tensor], proposals: list[Tensor], targets: Any) -> dict[str, Tensor]:
        regions, matched, labels, wanted = self.select_training_samples(proposals, targets)
        logits, deltas = self._boxes(maps, regions)
        labels_N = torch.cat(labels)
        chosen = torch.where(labels_N > 0)[0]
        box_loss = F.smooth_l1_loss(
            deltas.unflatten(1, (-1, 4))[chosen, labels_N[chosen]],
            torch.cat(list(wanted))[chosen],
            beta=self.style.box_beta,
            reduction="sum",
        )
        positive = [each > 0 for each in labels]
        boxes = [each[flags] for each, flags in zip(regions, positive, strict=True)]
        masks = self._masks(maps, boxes, labels_N[chosen])
        mask_targets = [
            self._mask_target(target["masks"], each, objects[flags], masks.shape[-1])
            for target, each, objects, flags in zip(targets, boxes, matched, positive, strict=True)
        ]
        return {
            "classification": F.cross_entropy(logits, labels_N),
            "boxes": box_loss / len(labels_N),
            "masks": F.binary_cross_entropy_with_logits(masks, torch.cat(mask_targets))
            if len(chosen)
            else masks.sum() * 0,
        }

    def _boxes(self, maps: dict[str, Tensor], regions: list[Tensor]) -> tuple[Tensor, Tensor]:
        logits, deltas = self.box_predictor(self.box_head(self.pool(maps, regions, BOX_SIDE)))
        return lift(logits), lift(deltas)

    def _masks(self, maps: dict[str, Tensor], boxes: list[Tensor], labels_N: Tensor) -> Tensor:
        """Logits of each region's own class. Shape: (N, M, M)."""
        logits_NKMM = lift(self.mask_predictor(self.mask_head(self.pool(maps, boxes, MASK_SIDE))))
        return logits_NKMM[torch.arange(len(labels_N), device=labels_N.device), labels_N]

    def _mask_target(self, masks_GHW: Tensor, boxes_N4: Tensor, object_N: Tensor, side: int) -> Tensor:
        regions_N5 = torch.cat((object_N[:, None].to(boxes_N4), boxes_N4), dim=1)
        sampling = 0 if self.style.binary_masks else -1
        target = roi_align(masks_GHW[:, None].to(boxes_N4), regions_N5, side, 1.0, sampling, self.style.roi_aligned)[
            :, 0
        ]
        return (target >= 0.5).to(target) if self.style.binary_masks else target
