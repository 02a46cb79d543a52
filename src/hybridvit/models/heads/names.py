"""Names of models for more than classification: a head, and the backbone that it reads.

    semantic_fpn_cmt_s        upernet_cvt_13        upernet.timm/resnet50
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from hybridvit.errors import ConfigError
from hybridvit.models import catalog
from hybridvit.models.heads.features import TIMM, Features
from hybridvit.models.heads.segmenter import Segmenter
from hybridvit.models.heads.semantic_fpn import SemanticFPN
from hybridvit.models.heads.upernet import FCN, UPerNet


@dataclass(frozen=True)
class Head:
    task: str
    build: Callable[..., nn.Module]
    """Takes the backbone's name, num_classes and the backbone's own arguments."""


def _semantic_fpn(backbone: str, *, num_classes: int, head_drop_rate: float = 0.1, **kwargs: Any) -> Segmenter:
    features = Features(backbone, **kwargs)
    return Segmenter(features, SemanticFPN(features.channels, features.strides, num_classes, drop_rate=head_drop_rate))


def _upernet(backbone: str, *, num_classes: int, head_drop_rate: float = 0.1, **kwargs: Any) -> Segmenter:
    features = Features(backbone, **kwargs)
    return Segmenter(
        features,
        UPerNet(features.channels, num_classes, drop_rate=head_drop_rate),
        FCN(features.channels, num_classes, drop_rate=head_drop_rate),
    )


HEADS = {"semantic_fpn": Head("segmentation", _semantic_fpn), "upernet": Head("segmentation", _upernet)}


def split(name: str) -> tuple[str, str] | None:
    """The head's and the backbone's name; None where `name` begins with no head."""
    for head in HEADS:
        if name.startswith((f"{head}_", f"{head}.{TIMM}")):
            return head, name[len(head) + 1 :]
    return None


def names(task: str) -> list[str]:
    """Every name of a head for this task over a backbone of the catalogue."""
    return [f"{head}_{name}" for head, each in HEADS.items() if each.task == task for name in catalog.ARCHITECTURES]


def task_of(name: str) -> str:
    """The task that a model of this name answers."""
    parts = split(name)
    return HEADS[parts[0]].task if parts else "classification"


def create(name: str, *, num_classes: int, **kwargs: Any) -> nn.Module:
    """Build a model by the name of its head and backbone, with random weights.

    Args:
        kwargs: head_drop_rate, and the backbone's own: see `catalog.create`.

    Raises: ConfigError for an unknown name or argument.
    """
    parts = split(name)
    if parts is None:
        near = difflib.get_close_matches(name, HEADS, n=1)
        hint = f" Did you mean {near[0]}_BACKBONE?" if near else ""
        raise ConfigError(f"{name!r} begins with no head: {', '.join(HEADS)}.{hint}")
    head, backbone = parts
    if num_classes < 1:
        raise ConfigError(f"{name}: num_classes must be at least 1, found {num_classes}.")
    model: Any = HEADS[head].build(backbone, num_classes=num_classes, **kwargs)
    model.architecture = name
    model.pretrained_cfg |= {"architecture": name, "num_classes": num_classes}
    model._model_args = dict(kwargs)
    return model
