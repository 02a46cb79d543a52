"""`style: torchvision` against torchvision's own models, with the same pyramid and weights: bit for bit."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN as TheirMaskRCNN
from torchvision.models.detection import RetinaNet as TheirRetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.roi_heads import paste_masks_in_image

from hybridvit.models.heads import assembly

SIDE = 128
SIZES = [(128, 96), (100, 128)]
NO_CHANGE: dict[str, Any] = {"min_size": 1, "max_size": 1, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}


def scene() -> tuple[list[Tensor], Tensor, list[dict[str, Tensor]]]:
    """Two pictures of different sizes, the same as one padded batch, and their objects; labels count from 0."""
    torch.manual_seed(0)
    images = [torch.randn(3, *size) for size in SIZES]
    batch = torch.zeros(2, 3, SIDE, SIDE)
    targets = []
    for i, (image, (rows, columns)) in enumerate(zip(images, SIZES, strict=True)):
        batch[i, :, :rows, :columns] = image
        corner = torch.rand(3 + i, 2) * torch.tensor([columns / 2, rows / 2])
        boxes = torch.cat((corner, corner + 4 + torch.rand(3 + i, 2) * 40), dim=1)
        masks = torch.zeros(len(boxes), rows, columns, dtype=torch.uint8)
        for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
            mask[top : bottom - 1, left + 2 : right] = 1
        targets.append({"boxes": boxes, "labels": torch.arange(len(boxes)) % 3, "masks": masks})
    return images, batch, targets


def without_resizing(theirs: Any) -> Any:
    theirs.transform.resize = lambda image, target=None: (image, target)
    return theirs


def spread(model: Any) -> None:
    """Weights large enough for hundreds of detections of all classes."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if name.endswith(("cls_logits.weight", "cls_logits.bias", "bbox_reg.weight", "bbox_pred.weight")):
            parameter.data.normal_(std=0.5 if "cls_logits.weight" in name else 0.1)


def retinanets(**kwargs: Any) -> tuple[Any, Any]:
    ours: Any = assembly.create(
        "retinanet_cmt_nano", num_classes=3, style="torchvision", head_convs=4, strides=(8, 16, 32, 64), **kwargs
    )
    spread(ours)
    sizes = tuple((x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (16, 32, 64, 128))
    theirs = TheirRetinaNet(
        ours.pyramid,
        num_classes=3,
        anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
        head=ours.head,
        **NO_CHANGE,
    )
    return ours, without_resizing(theirs)


def mask_rcnns() -> tuple[Any, Any]:
    ours: Any = assembly.create("mask_rcnn_cmt_nano", num_classes=3, style="torchvision")
    spread(ours)
    theirs = TheirMaskRCNN(
        ours.pyramid,
        num_classes=4,
        rpn_anchor_generator=AnchorGenerator(tuple((x,) for x in (16, 32, 64, 128)), ((0.5, 1.0, 2.0),) * 4),
        rpn_head=ours.rpn.head,
        **NO_CHANGE,
    )
    for part in ("box_head", "box_predictor", "mask_head", "mask_predictor"):
        setattr(theirs.roi_heads, part, getattr(ours.roi_heads, part))
    for pool in (theirs.roi_heads.box_roi_pool, theirs.roi_heads.mask_roi_pool):
        pool.featmap_names = ["0", "1", "2"]
    return ours, without_resizing(theirs)


NAMES = {
    "classification": "classification",
    "bbox_regression": "boxes",
    "loss_classifier": "classification",
    "loss_box_reg": "boxes",
    "loss_mask": "masks",
    "loss_objectness": "objectness",
    "loss_rpn_box_reg": "proposals",
}


@pytest.mark.parametrize("build", [retinanets, mask_rcnns])
@pytest.mark.parametrize("empty", ["none is empty", "the second is empty", "both are empty"])
def test_losses_are_torchvisions_bit_for_bit(build: Any, empty: str) -> None:
    ours, theirs = build()
    images, batch, targets = scene()
    for target in targets[{"none is empty": 2, "the second is empty": 1, "both are empty": 0}[empty] :]:
        target |= {name: tensor[:0] for name, tensor in target.items()}
    shift = int(build is mask_rcnns)
    ours.train(), theirs.train()
    torch.manual_seed(2)
    found = ours(batch, SIZES, targets)
    torch.manual_seed(2)
    expected = theirs(images, [{**target, "labels": target["labels"] + shift} for target in targets])
    assert {name: loss.item() for name, loss in found.items()} == {
        NAMES[name]: loss.item() for name, loss in expected.items()
    }


def test_gradients_are_torchvisions_bit_for_bit() -> None:
    ours, theirs = retinanets()
    images, batch, targets = scene()
    grads = []
    for model, losses in ((ours, ours.train()(batch, SIZES, targets)), (theirs, theirs.train()(images, targets))):
        model.zero_grad()
        sum(losses.values()).backward()
        grads.append({name: p.grad.clone() for name, p in ours.named_parameters() if p.grad is not None})
    assert all(torch.equal(grads[0][name], grads[1][name]) for name in grads[0])


def test_retinanets_detections_are_torchvisions_bit_for_bit() -> None:
    ours, theirs = retinanets()
    images, batch, _ = scene()
    with torch.no_grad():
        found, expected = ours.eval()(batch, SIZES), theirs.eval()(images)
    for a, b in zip(found, expected, strict=True):
        assert len(a["boxes"]) > 100
        assert all(torch.equal(a[name], b[name]) for name in ("boxes", "scores", "labels"))


def test_mask_rcnns_detections_and_masks_are_torchvisions_bit_for_bit() -> None:
    ours, theirs = mask_rcnns()
    images, batch, _ = scene()
    with torch.no_grad():
        found, expected = ours.eval()(batch, SIZES), theirs.eval()(images)
    for a, b, size in zip(found, expected, SIZES, strict=True):
        assert len(a["boxes"]) > 50
        assert torch.equal(a["boxes"], b["boxes"])
        assert torch.equal(a["scores"], b["scores"])
        assert torch.equal(a["labels"] + 1, b["labels"])
        assert torch.equal(paste_masks_in_image(a["masks"], a["boxes"], size), b["masks"])


def test_extra_levels_are_torchvisions() -> None:
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    from hybridvit.models.heads.pyramid import Pyramid
    from hybridvit.models.heads.style import STYLES

    pyramid: Any = Pyramid("cmt_nano", strides=(8, 16, 32, 64), channels=24, style=STYLES["torchvision"]).eval()
    theirs: Any = LastLevelP6P7(128, 24)
    theirs.p6, theirs.p7 = pyramid.added
    images = torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        levels = list(pyramid(images).values())
        expected, _ = theirs(levels[:2], pyramid.backbone(images), ["", ""])
    assert all(torch.equal(a, b) for a, b in zip(levels, expected, strict=True))
