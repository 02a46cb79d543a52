"""`style: mmdetection` against its arithmetic written down once more, box by box (tests/mmdetection_formulas.py), in float64."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

import mmdetection_formulas as theirs
from hybridvit.models.heads import assembly
from hybridvit.models.heads.anchors import Anchors, match
from hybridvit.models.heads.mask_rcnn import RPN_SAMPLES
from hybridvit.models.heads.retinanet import as_image_list
from hybridvit.models.heads.style import STYLES

SIZES = [(64, 90), (96, 41)]  # in a batch of 96 x 96: the second is padded by more than 32 columns
TOLERANCE = 1e-9


def targets(num_classes: int = 3) -> list[dict[str, Tensor]]:
    """Boxes of many sizes; the third of the first picture overlaps the second, the fourth is no anchor's match above .4."""
    boxes = [
        torch.tensor(
            [[3.3, 5.1, 20.7, 26.9], [30.2, 10.4, 62.8, 50.3], [33.0, 12.0, 66.0, 55.0], [1.0, 40.0, 5.0, 44.5]],
            dtype=torch.float64,
        ),
        torch.tensor([[8.5, 30.25, 39.0, 92.75]], dtype=torch.float64),
    ]
    made = []
    for each, (rows, columns) in zip(boxes, SIZES, strict=True):
        masks = torch.zeros(len(each), rows, columns, dtype=torch.uint8)
        for mask, (left, top, right, bottom) in zip(masks, each.int().tolist(), strict=True):
            mask[top:bottom, left + (right - left) // 3 : right] = 1
        made.append({"boxes": each, "labels": torch.arange(len(each)) % num_classes, "masks": masks})
    return made


def model(name: str, **kwargs: Any) -> Any:
    """In float64, with predictions that vary: hundreds of detections, some boxes clamped on both sides."""
    torch.manual_seed(0)
    made: Any = assembly.create(name, num_classes=3, channels=16, **kwargs).double().eval()
    for parameter_name, parameter in made.named_parameters():
        if parameter_name.endswith(("cls_logits.weight", "bbox_reg.weight", "bbox_pred.weight", "cls_score.weight")):
            parameter.data.normal_(std=0.3)
    return made


def batch() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 3, 96, 96, dtype=torch.float64)


def levels_of(maps: list[Tensor], strides: tuple[int, ...], *, scale: float, octave_steps: int) -> list[Any]:
    return [
        theirs.anchors_of_level(*each.shape[-2:], stride, scale=scale, octave_steps=octave_steps)
        for each, stride in zip(maps, strides, strict=True)
    ]


def flags_of(maps: list[Tensor], strides: tuple[int, ...], per_place: int) -> list[Any]:
    return [
        np.concatenate(
            [
                theirs.stands_on_picture(*each.shape[-2:], stride, size, per_place)
                for each, stride in zip(maps, strides, strict=True)
            ]
        )
        for size in SIZES
    ]


def close(found: Any, expected: Any) -> bool:
    found, expected = np.asarray(found), np.asarray(expected)
    return found.shape == expected.shape and bool(
        np.all(np.abs(found - expected) <= TOLERANCE * np.maximum(1, np.abs(expected)))
    )


@pytest.mark.parametrize("octave_steps", [1, 3])
def test_anchors(octave_steps: int) -> None:
    images = batch()
    maps = [torch.zeros(2, 1, 12, 12, dtype=torch.float64), torch.zeros(2, 1, 5, 6, dtype=torch.float64)]
    anchors = Anchors((8, 16), scale=4, octave_steps=octave_steps, style=STYLES["mmdetection"])
    expected = np.concatenate(levels_of(maps, (8, 16), scale=4, octave_steps=octave_steps))
    assert close(anchors(ImageList(images, SIZES), maps)[0], expected)
    for size, flags in zip(SIZES, flags_of(maps, (8, 16), 3 * octave_steps), strict=True):
        inside = anchors.inside(size, maps)
        assert inside is not None
        assert np.array_equal(inside, flags)


@pytest.mark.parametrize("least", [0.0, 0.3])
def test_assignment_with_many_objects_and_ties(least: float) -> None:
    """150 objects: more than are compared at once. Some are doubled, so that two claim one anchor."""
    torch.manual_seed(2)
    corners = torch.rand(150, 2, dtype=torch.float64) * 90
    boxes = torch.cat((corners, corners + 1 + 30 * torch.rand(150, 2, dtype=torch.float64)), dim=1)
    boxes[100:110] = boxes[:10]
    anchors = np.concatenate([theirs.anchors_of_level(6, 6, 16, scale=s, octave_steps=1) for s in (1, 2)])
    valid = np.arange(len(anchors)) % 7 != 0
    found = match(
        boxes,
        torch.from_numpy(anchors),
        torch.from_numpy(valid),
        high=0.5,
        low=0.4,
        least=least,
        style=STYLES["mmdetection"],
    )
    expected = theirs.assign(boxes.numpy(), anchors, valid, high=0.5, low=0.4, least=least)
    assert len(set(expected.tolist())) > 30
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("empty", [False, True])
def test_retinanets_losses(empty: bool) -> None:
    ours, objects = model("retinanet_cmt_nano"), targets()
    if empty:
        objects[1] = {name: tensor[:0] for name, tensor in objects[1].items()}
    maps, logits, deltas = ours.dense(batch())
    losses = ours(batch(), SIZES, objects)
    expected = theirs.retinanet_losses(
        logits.detach().numpy(),
        deltas.detach().numpy(),
        np.concatenate(levels_of(maps, (8, 16), scale=2, octave_steps=3)),
        flags_of(maps, (8, 16), 9),
        [each["boxes"].numpy() for each in objects],
        [each["labels"].tolist() for each in objects],
    )
    assert close([losses["classification"].item(), losses["boxes"].item()], expected)


def test_retinanets_detections() -> None:
    ours = model("retinanet_cmt_nano", strides=(8, 16, 32))
    with torch.no_grad():
        maps, logits, deltas = ours.dense(batch())
        deltas[:, ::5, 2:] -= 5  # below the clamp
        deltas[:, ::7, 2:] += 5
        found = ours.detections(as_image_list(batch(), SIZES), maps, logits, deltas)
    levels = levels_of(maps, (8, 16, 32), scale=2, octave_steps=3)
    for i, size in enumerate(SIZES):
        boxes, scores, labels = theirs.retinanet_detections(logits[i].numpy(), deltas[i].numpy(), levels, size)
        assert len(boxes) == 100
        assert found[i]["labels"].tolist() == labels
        assert close(found[i]["scores"], scores)
        assert close(found[i]["boxes"], boxes)


def test_coarser_levels_come_from_the_last_map_without_relu() -> None:
    ours = model("retinanet_cmt_nano", strides=(8, 16, 32, 64))
    pyramid = ours.pyramid
    with torch.no_grad():
        levels = list(pyramid(batch()).values())
        p6 = F.conv2d(pyramid.backbone(batch())[-1], pyramid.added[0].weight, pyramid.added[0].bias, 2, 1)
        p7 = F.conv2d(p6, pyramid.added[1].weight, pyramid.added[1].bias, 2, 1)
    assert close(levels[2], p6)
    assert close(levels[3], p7)


def mask_rcnn() -> Any:
    """With every anchor and region sampled, so that nothing hangs on chance."""
    ours = model("mask_rcnn_cmt_nano", hidden=16)
    for sampler in (ours.rpn.fg_bg_sampler, ours.roi_heads.fg_bg_sampler):
        sampler.batch_size_per_image = 1000 * RPN_SAMPLES
    return ours


def rpn_outputs(ours: Any) -> tuple[dict[str, Tensor], Any, Any, list[Any], list[Any]]:
    with torch.no_grad():
        maps = ours.pyramid(batch())
        logits, deltas = ours.rpn.head(list(maps.values()))
    by_place = [each.permute(0, 2, 3, 1).flatten(1) for each in logits]
    delta = [each.unflatten(1, (3, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3) for each in deltas]
    strides = (4, 8, 16, 32)
    return (
        maps,
        torch.cat(by_place, 1).numpy(),
        torch.cat(delta, 1).numpy(),
        levels_of(list(maps.values()), strides, scale=4, octave_steps=1),
        flags_of(list(maps.values()), strides, 3),
    )


@pytest.mark.parametrize("empty", [False, True])
def test_the_rpns_losses_and_proposals(empty: bool) -> None:
    ours, objects = mask_rcnn().train(), targets()
    if empty:
        objects[0] = {name: tensor[:0] for name, tensor in objects[0].items()}
    maps, logits, deltas, levels, flags = rpn_outputs(ours)
    boxes, losses = ours.rpn(as_image_list(batch(), SIZES), maps, objects)
    expected = theirs.rpn_losses(
        logits, deltas, np.concatenate(levels), flags, [each["boxes"].numpy() for each in objects]
    )
    assert close([losses["loss_objectness"].item(), losses["loss_rpn_box_reg"].item()], expected)
    wanted = theirs.proposals(logits[0], deltas[0], levels, SIZES[0], 1000)
    assert len(wanted) > 300
    assert close(boxes[0], wanted)


def test_regions_are_pooled_from_the_level_of_their_size() -> None:
    ours = mask_rcnn()
    torch.manual_seed(3)
    maps = {str(i): torch.randn(2, 5, 24 >> i, 24 >> i, dtype=torch.float64) for i in range(4)}
    boxes = [
        torch.tensor([[0, 0, 20, 30.5], [10, 10, 130, 140], [-3, 50, 96, 96]], dtype=torch.float64),
        torch.tensor([[40.2, 3.7, 44.9, 60.1], [0, 0, 300, 250]], dtype=torch.float64),
    ]
    pooled = iter(ours.roi_heads.pool(maps, boxes, 7))
    levels = set()
    for picture, each in enumerate(boxes):
        for box in each.numpy():
            level = theirs.level_of(box, 3)
            levels.add(level)
            expected = theirs.roi_align(maps[str(level)][picture].numpy(), box, 7, 1 / (4 << level))
            assert close(next(pooled), expected)
    assert levels == {0, 1, 2}


def test_losses_of_regions_and_masks() -> None:
    ours, objects = mask_rcnn(), targets()
    heads = ours.roi_heads
    with torch.no_grad():
        maps = ours.pyramid(batch())
        torch.manual_seed(4)
        proposals = []
        for each in objects:  # around the objects, so that many are positive
            near = each["boxes"].repeat(6, 1) + torch.randn(6 * len(each["boxes"]), 4, dtype=torch.float64) * 2
            proposals.append(near.clamp(min=0))
        shifted = [{**each, "labels": each["labels"] + 1} for each in objects]
        found = heads.losses(maps, [each.clone() for each in proposals], shifted)
        regions = [torch.cat((a, b["boxes"])) for a, b in zip(proposals, objects, strict=True)]
        logits, deltas = (each.numpy() for each in heads._boxes(maps, regions))
    row = 0
    classification = regression = 0.0
    positive: list[Tensor] = []
    labels_of_masks, wanted_masks = [], []
    for each, target in zip(regions, objects, strict=True):
        labels, wanted, assigned = theirs.region_targets(
            each.numpy(), target["boxes"].numpy(), target["labels"].tolist()
        )
        for label, delta, number, box in zip(labels, wanted, assigned, each.numpy(), strict=True):
            classification += theirs.cross_entropy(logits[row], label + 1)
            if delta is not None:
                regression += float(np.abs(deltas[row, 4 * (label + 1) :][:4] - delta).sum())
                labels_of_masks.append(int(label) + 1)
                mask = theirs.roi_align(target["masks"][number : number + 1].double().numpy(), box, 28, 1.0)[0]
                wanted_masks.append(mask >= 0.5)
            row += 1
        positive.append(each[torch.from_numpy(labels >= 0)])
    assert len(labels_of_masks) > 10
    with torch.no_grad():
        predicted = heads._masks(maps, positive, torch.tensor(labels_of_masks)).numpy()
    masks = [
        theirs.binary_cross_entropy(logit, float(wanted))
        for logit, wanted in zip(predicted.ravel(), np.array(wanted_masks).ravel(), strict=True)
    ]
    expected = [classification / row, regression / row, float(np.mean(masks))]
    assert close([found[name].item() for name in ("classification", "boxes", "masks")], expected)
