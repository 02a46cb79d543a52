"""Detectors by name: which there are, how large, and that every part of them learns."""

from typing import Any

import pytest
import torch
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import hybridvit
from hybridvit.errors import ConfigError
from hybridvit.models.heads.pyramid import Pyramid
from hybridvit.runtime import ALONE
from hybridvit.training.shard import shard

PAPER_SIZE = (800, 1280)


@pytest.mark.parametrize(
    ("name", "params", "gmacs", "attention_gmacs"),
    [
        ("retinanet_cmt_s", 34_549_548, 229.5, 72.7),  # CMT's paper says 231 G, and 44.3 M, which is its AP
        ("mask_rcnn_cmt_s", 44_471_341, 248.1, 72.7),  # 249 G, 44.5 M
        ("retinanet_cmt_ti", 17_573_846, None, None),
        ("retinanet.timm/resnet50", 37_968_692, None, None),
    ],
)
def test_a_detector_has_exactly_its_parameters_and_products(
    name: str, params: int, gmacs: float | None, attention_gmacs: float | None
) -> None:
    with torch.device("meta"):
        model: Any = hybridvit.create_model(name, num_classes=80)
        images = torch.empty(1, 3, *PAPER_SIZE)
    assert sum(p.numel() for p in model.parameters()) == params
    if gmacs is not None:
        with FlopCounterMode(display=False) as counter:
            model.dense(images)
        found = {str(op): flops / 2e9 for op, flops in counter.get_flop_counts()["Global"].items()}
        attention = found.pop("aten.bmm")
        assert round(sum(found.values()), 1) == gmacs
        assert round(attention, 1) == attention_gmacs


def objects(masks: bool, side: int = 64) -> list[dict[str, Tensor]]:
    """Two pictures: two objects, and none."""
    boxes = torch.tensor([[4.0, 6.0, 30.0, 40.0], [20.0, 20.0, 60.0, 50.0]])
    found = []
    for count in (2, 0):
        target = {"boxes": boxes[:count], "labels": torch.arange(count)}
        if masks:
            target["masks"] = torch.ones(count, side, side, dtype=torch.uint8)
        found.append(target)
    return found


NAMES = [
    "retinanet_cmt_nano",
    "retinanet_cvt_nano",  # its two finest maps have one stride; the coarser level comes from a convolution
    "mask_rcnn_cmt_nano",
    "mask_rcnn_cvt_nano",
    "retinanet.timm/resnet10t",
    "mask_rcnn.timm/resnet10t",
]


@pytest.mark.parametrize("style", ["mmdetection", "torchvision"])
@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns_also_beside_an_empty_picture(name: str, style: str) -> None:
    torch.manual_seed(0)
    small: dict[str, Any] = {"channels": 16} | ({"hidden": 16} if "rcnn" in name else {})
    model = hybridvit.create_model(name, num_classes=2, style=style, batchnorm="train", **small).train()
    losses: Any = model(torch.randn(2, 3, 64, 64), None, objects(masks="rcnn" in name))
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", NAMES)
def test_pictures_of_odd_sizes_are_answered_within_their_borders(name: str) -> None:
    torch.manual_seed(0)
    model = hybridvit.create_model(name, num_classes=2, channels=16).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith(("cls_logits.bias", "cls_score.bias")):
                parameter.fill_(1.0)  # something is found everywhere
        sizes = [(67, 93), (80, 50)]
        found: Any = model(torch.randn(2, 3, 80, 93), sizes)
    for each, (rows, columns) in zip(found, sizes, strict=True):
        assert len(each["boxes"]) > 0
        assert each["boxes"].min() >= 0
        assert each["boxes"][:, 0::2].max() <= columns
        assert each["boxes"][:, 1::2].max() <= rows
        assert set(each["labels"].tolist()) <= {0, 1}


@pytest.mark.parametrize(
    ("batchnorm", "statistics_move", "scales_learn"),
    [("eval", False, True), ("frozen", False, False), ("train", True, True)],
)
def test_the_backbones_batchnorm(batchnorm: str, statistics_move: bool, scales_learn: bool) -> None:
    model: Any = hybridvit.create_model("retinanet_cmt_nano", num_classes=2, batchnorm=batchnorm).train()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    model(torch.randn(2, 3, 64, 64), None, objects(masks=False))
    moved = [not torch.equal(norm.running_mean, old) for norm, old in zip(norms, before, strict=True)]
    assert moved == [statistics_move] * len(norms)
    assert {norm.weight.requires_grad for norm in norms} == {scales_learn}


def test_synchronised_batchnorm_takes_the_place_of_the_backbones_only() -> None:
    model: Any = hybridvit.create_model("retinanet_cmt_nano", num_classes=2, batchnorm="sync")
    kinds = {type(module).__name__ for module in model.pyramid.backbone.modules() if hasattr(module, "running_mean")}
    assert kinds == {"SyncBatchNorm"}


def test_under_autocast_boxes_and_losses_are_float32() -> None:
    model: Any = hybridvit.create_model("mask_rcnn_cmt_nano", num_classes=2)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.train()(torch.randn(2, 3, 64, 64), None, objects(masks=True))
        found = model.eval()(torch.randn(1, 3, 64, 64))
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert found[0]["boxes"].dtype == torch.float32


def test_a_pyramid_drops_what_lies_behind_its_coarsest_map() -> None:
    with torch.device("meta"):
        pyramid = Pyramid("cmt_ti", strides=(4, 8))
    assert pyramid.backbone.strides == (4, 8)
    assert {int(name.partition(".stages.")[2][0]) for name, _ in pyramid.named_parameters() if ".stages." in name} == {
        0,
        1,
    }


def test_detectors_are_listed() -> None:
    listed = hybridvit.list_models(task="detection")
    assert {"retinanet_cmt_s", "mask_rcnn_cvt_13", "retinanet_cvt_w24"} <= set(listed)
    assert hybridvit.list_models("mask_rcnn_*_nano", task="detection") == ["mask_rcnn_cvt_nano", "mask_rcnn_cmt_nano"]
    assert not set(listed) & set(hybridvit.list_models())


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("retinanet_cmt", {}, "'cmt' is neither"),
        ("retinanet_cmt_nano", {"style": "detectron"}, "style 'detectron' is unknown. Known: mmdetection, torchvision"),
        ("retinanet_cmt_nano", {"batchnorm": "off"}, "batchnorm 'off' is unknown. Known: eval, frozen, train, sync"),
        ("retinanet_cmt_nano", {"strides": (2, 4)}, "has maps of stride 4, 8, 16; a pyramid of strides 2, 4 needs"),
        ("retinanet_cmt_nano", {"strides": (8, 16, 64)}, "each twice the one before"),
        ("retinanet_cmt_nano", {"head_convs": 5}, "head_convs must lie between 1 and 4, found 5"),
        ("retinanet.timm/vit_tiny_patch16_224", {}, "has maps of stride 16"),
        ("mask_rcnn_cmt_nano", {"widht": 3}, "unexpected keyword argument 'widht'"),
    ],
)
def test_what_cannot_be_built_is_refused(name: str, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        hybridvit.create_model(name, **kwargs)


@pytest.mark.parametrize("name", ["retinanet_cmt_nano", "mask_rcnn_cvt_nano", "semantic_fpn_cmt_nano"])
def test_layer_decay_slows_the_backbones_layers_by_depth_and_spares_the_head(name: str) -> None:
    model = hybridvit.create_model(name, num_classes=2)
    groups = param_groups_layer_decay(model, layer_decay=0.5)
    scale = {id(parameter): group["lr_scale"] for group in groups for parameter in group["params"]}
    named = {key: scale[id(parameter)] for key, parameter in model.named_parameters()}
    first = min(named.values())
    assert {value for key, value in named.items() if ".net." not in key} == {1.0}
    assert first < 0.2
    assert all(value < 1 for key, value in named.items() if ".stages.0." in key)


def test_layer_decay_of_a_backbone_without_an_order_is_refused() -> None:
    model: Any = hybridvit.create_model("retinanet.timm/resnet10t", num_classes=2, channels=16)
    with pytest.raises(ConfigError, match=r"leave optimizer\.layer_decay out"):
        model.group_matcher()


def test_splitting_a_detector_over_devices_is_refused() -> None:
    model = hybridvit.create_model("retinanet_cmt_nano", num_classes=2)
    with pytest.raises(ConfigError, match="every device keeps the whole"):
        shard(model, device=torch.device("cpu"), ranks=ALONE)
