"""Names of detectors and segmenters: a head, and any backbone of the catalogue or of timm.

`retinanet_cmt_s`, `mask_rcnn_cvt_13`, `semantic_fpn_cmt_s`, `upernet.timm/resnet50`.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from torch import nn

from hybridvit.config import Preprocess
from hybridvit.errors import ConfigError
from hybridvit.models.catalog import ARCHITECTURES
from hybridvit.models.heads.features import TIMM


@dataclass(frozen=True, kw_only=True)
class Head:
    task: str
    model: str
    """Module and name of what builds it."""
    num_classes: int
    """Of the data set that the papers use."""
    preprocess: Preprocess
    """What the papers train and evaluate with. image_size: of detection, the short side and the most of the long one; of
    segmentation, rows and columns of the crop."""
    small_preprocess: Preprocess
    small_args: dict[str, Any] = field(default_factory=dict)
    """For the nanos, and small pictures."""


def _long_to(short: int, long: int) -> Preprocess:
    return Preprocess(image_size=(short, long), crop_pct=1.0, crop_mode="border", interpolation="bilinear")


_SMALL_BACKBONES = ("cvt_nano", "cmt_nano")

HEADS = {
    "retinanet": Head(
        task="detection",
        model="hybridvit.models.heads.retinanet:RetinaNet",
        num_classes=80,
        preprocess=_long_to(800, 1333),
        small_preprocess=_long_to(64, 64),
        small_args={"strides": (8, 16), "channels": 64, "head_convs": 2, "head_norm": True, "anchor_scale": 2.0},
    ),
    "mask_rcnn": Head(
        task="detection",
        model="hybridvit.models.heads.mask_rcnn:MaskRCNN",
        num_classes=80,
        preprocess=_long_to(800, 1333),
        small_preprocess=_long_to(64, 64),
        small_args={"strides": (4, 8, 16), "channels": 64, "hidden": 128, "mask_convs": 2, "anchor_scale": 4.0},
    ),
    "semantic_fpn": Head(
        task="segmentation",
        model="hybridvit.models.heads.semantic_fpn:semantic_fpn",
        num_classes=150,
        preprocess=_long_to(512, 512),
        small_preprocess=_long_to(64, 64),
        small_args={"pyramid_width": 64, "width": 64},
    ),
    "upernet": Head(
        task="segmentation",
        model="hybridvit.models.heads.upernet:upernet",
        num_classes=150,
        preprocess=_long_to(512, 512),
        small_preprocess=_long_to(64, 64),
        small_args={"width": 64, "auxiliary_width": 32},
    ),
}


def names(task: str) -> list[str]:
    """Every head of the task on every backbone of the catalogue."""
    return [f"{head}_{backbone}" for head in HEADS if HEADS[head].task == task for backbone in ARCHITECTURES]


def split(name: str) -> tuple[str, str] | None:
    """Head and backbone of a name; None where it begins with no head's.

    Raises: ConfigError for a backbone that neither the catalogue nor timm has, by its spelling.
    """
    head = next((head for head in HEADS if name.startswith((head + "_", head + "."))), None)
    if head is None:
        return None
    backbone = name[len(head) + 1 :]
    if backbone in ARCHITECTURES or backbone.startswith(TIMM):
        return head, backbone
    near = difflib.get_close_matches(backbone, ARCHITECTURES, n=3, cutoff=0.4)
    raise ConfigError(
        f"{name}: {head} stands on a backbone of the catalogue ({head}_cmt_s), or of timm ({head}.timm/resnet50); "
        f"{backbone!r} is neither." + (f" Did you mean {', '.join(near)}?" if near else "")
    )


def create(name: str, *, num_classes: int | None = None, **kwargs: Any) -> nn.Module:
    """Build a detector or segmenter by name, with random weights.

    Args:
        num_classes: by default, as many as the data set of the papers has.
        kwargs: of what builds the head (hybridvit.models.heads), and of the backbone (drop_path_rate, in_chans, img_size).

    Raises: ConfigError for an unknown name or argument.
    """
    found = split(name)
    if found is None:
        raise ConfigError(f"{name!r} begins with no head. Known: {', '.join(HEADS)}.")
    head, backbone = HEADS[found[0]], found[1]
    num_classes = head.num_classes if num_classes is None else num_classes
    if num_classes < 1:
        raise ConfigError(f"{name}: num_classes must be at least 1, found {num_classes}.")
    small = backbone in _SMALL_BACKBONES
    module, _, builder = head.model.partition(":")
    build: Callable[..., nn.Module] = getattr(import_module(module), builder)
    model: Any = build(backbone, num_classes=num_classes, **((head.small_args if small else {}) | kwargs))
    for layer in model.modules():
        if getattr(
            layer, "inplace", False
        ):  # torchvision's and timm's: hooks would keep what was overwritten behind them
            layer.inplace = False
    preprocess = head.small_preprocess if small else head.preprocess
    model.architecture, model.task, model.in_chans = name, head.task, kwargs.get("in_chans", 3)
    model.pretrained_cfg = preprocess.to_pretrained_cfg() | {
        "architecture": name,
        "num_classes": num_classes,
        "classifier": getattr(model, "classifiers", ()),
    }
    model._model_args = dict(kwargs)
    return model
