"""A model that gives every pixel a class: a backbone's maps, a head over them, and the picture's own size again.

Tensors: B batch, C channels, K classes, H rows, W columns.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridvit.models.heads.features import Features

OUT, AUXILIARY = "out", "auxiliary"


class Segmenter(nn.Module):
    """Shape: (B, in_chans, H, W) -> logits (B, K, H, W).

    In training, with an auxiliary head, a dictionary of two such logits: "out" and "auxiliary".
    """

    def __init__(self, backbone: Features, head: nn.Module, auxiliary: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone, self.head, self.auxiliary = backbone, head, auxiliary
        self.num_classes = self.get_classifier().out_channels
        self.classifiers = ("head.classifier", "auxiliary.classifier")[: 1 + (auxiliary is not None)]

    def forward(self, x_BCHW: Tensor) -> Tensor | dict[str, Tensor]:
        maps, size = self.backbone(x_BCHW), x_BCHW.shape[2:]
        logits_BKHW = resize(self.head(maps), size)
        if self.auxiliary is None or not self.training:
            return logits_BKHW
        return {OUT: logits_BKHW, AUXILIARY: resize(self.auxiliary(maps), size)}

    def get_classifier(self) -> nn.Conv2d:
        return self.head.classifier  # type: ignore[return-value]

    def reset_classifier(self, num_classes: int) -> None:
        """New last layers, for other classes, which have no names yet."""
        self.num_classes, self.label_names = num_classes, None
        for head in filter(None, (self.head, self.auxiliary)):
            old: Any = head.classifier
            head.classifier = classifier(old.in_channels, num_classes).to(old.weight)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the backbone's blocks in backward instead of keeping their activations."""
        self.backbone.set_grad_checkpointing(enable)

    def no_weight_decay(self) -> set[str]:
        """The backbone's own, under their names here."""
        return {f"backbone.{name}" for name in self.backbone.no_weight_decay()}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return self.backbone.group_matcher("backbone.", coarse)


class AtPixel(nn.Module):
    """What a segmenter says of one pixel of its input, as a classifier says it: for explaining by occlusion.

    Shape: (B, in_chans, H, W) -> (B, K).
    """

    def __init__(self, model: nn.Module, *, x: int, y: int) -> None:
        super().__init__()
        self.model, self.x, self.y = model, x, y
        for name in ("num_classes", "label_names", "preprocess", "pretrained_cfg"):
            if hasattr(model, name):
                setattr(self, name, getattr(model, name))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.model(x_BCHW)[:, :, self.y, self.x]


def resize(x_BCHW: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, corners not aligned. Shape: (B, C, H, W) -> (B, C, *size)."""
    if not torch.compiler.is_exporting() and x_BCHW.shape[2:] == torch.Size(size):  # a graph is for other sizes, too
        return x_BCHW
    return F.interpolate(x_BCHW, size=tuple(size), mode="bilinear", align_corners=False)


BAND = 2**24
"""Logits that are computed at a time."""


def classes_at(logits_KHW: Tensor, size: tuple[int, int]) -> Tensor:
    """The class of the highest logit, after resizing as `resize` does, some rows at a time: in bounded memory for any size.

    -1 everywhere where a logit is not finite. Shape: (K, H, W) -> size, int64.
    """
    if not torch.stack(torch.aminmax(logits_KHW)).isfinite().all():
        return torch.full(size, -1, device=logits_KHW.device)
    if logits_KHW.shape[1:] == torch.Size(size):
        return logits_KHW.argmax(dim=0)
    num_classes, height, _ = logits_KHW.shape
    rows, columns = size
    band = max(1, BAND // (num_classes * columns))
    parts = []
    for top in range(0, rows, band):
        places = (
            torch.arange(top, min(top + band, rows), device=logits_KHW.device, dtype=torch.float64) + 0.5
        ) * height / rows - 0.5
        above = places.clamp(min=0).floor()
        share = (places.clamp(min=0) - above)[:, None].to(logits_KHW.dtype)
        above = above.long()
        below = (above + 1).clamp(max=height - 1)
        rows_KRW = torch.lerp(logits_KHW[:, above], logits_KHW[:, below], share)
        parts.append(resize(rows_KRW[None], (len(places), columns))[0].argmax(dim=0))
    return torch.cat(parts)


def classifier(width: int, num_classes: int) -> nn.Conv2d:
    """The last layer of every head. Source: mmsegmentation, BaseDecodeHead, conv_seg."""
    layer = nn.Conv2d(width, num_classes, 1)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def initialise(head: nn.Module) -> None:
    """Convolutions with a BatchNorm behind them: He, fan out. Source: mmcv, ConvModule."""
    for module in head.modules():
        if isinstance(module, nn.Conv2d) and module.bias is None:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
