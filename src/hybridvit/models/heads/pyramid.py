"""A feature pyramid over any backbone that gives features (Lin et al., arXiv 1612.03144).

Tensors: B batch, C channels, H rows, W columns.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from hybridvit.errors import ConfigError
from hybridvit.kernels.private import BatchNorm
from hybridvit.models.heads.features import Features
from hybridvit.models.heads.style import STYLES, Style

BatchNormMode = Literal["eval", "frozen", "train", "sync"]


class Pyramid(nn.Module):
    """Maps of one width at the asked strides.

    Of each stride, the backbone's last map is taken. Strides coarser than the backbone's are made by convolutions of stride 2,
    the first from the backbone's last map; `pooled` adds one more level by subsampling.

    Shape: (B, in_chans, H, W) -> {"0": (B, channels, H / strides[0], W / strides[0]), "1": ...}, as torchvision's heads take it.

    Args:
        backbone: a name of the catalogue, or "timm/" and any timm model with features_only.
        batchnorm: of the backbone. "eval", the default, keeps the running statistics of its training on classification and
            trains scale and shift: a device sees two or so large pictures at a time, too few for statistics, and pads them.
            "frozen" keeps scale and shift as well (torchvision's choice for ResNet). "sync" shares a batch's statistics between
            the devices (CUDA). "train" is for backbones that begin from chance, in batches of 8 or more.
        backbone_args: of the backbone: drop_path_rate, in_chans, img_size.

    Raises: ConfigError for a stride that the backbone cannot give.
    """

    def __init__(
        self,
        backbone: str,
        *,
        strides: Sequence[int],
        channels: int = 256,
        pooled: bool = False,
        style: Style = STYLES["mmdetection"],
        batchnorm: BatchNormMode = "eval",
        **backbone_args: Any,
    ) -> None:
        super().__init__()
        if batchnorm not in get_args(BatchNormMode):
            raise ConfigError(f"batchnorm {batchnorm!r} is unknown. Known: {', '.join(get_args(BatchNormMode))}.")
        self.backbone, self.taken = _features(backbone, strides, backbone_args)
        widths = [self.backbone.channels[i] for i in self.taken]
        num_added = len(strides) - len(widths)
        self.channels = self.out_channels = channels  # torchvision's name for it
        self.fpn = FeaturePyramidNetwork(widths, channels)
        self.added = nn.ModuleList(
            nn.Conv2d(channels if i else widths[-1], channels, 3, stride=2, padding=1) for i in range(num_added)
        )
        self.pooled, self.relu_between = pooled, style.relu_between
        self.strides = (*strides, 2 * strides[-1]) if pooled else tuple(strides)
        if style.mmdetection_init:
            init_convolutions(self.fpn, nn.init.xavier_uniform_)
        init_convolutions(self.added, nn.init.xavier_uniform_ if style.mmdetection_init else _he_uniform)
        self.batchnorm = batchnorm
        if batchnorm == "sync":
            nn.SyncBatchNorm.convert_sync_batchnorm(self.backbone)
        if batchnorm == "frozen":
            for module in self._batchnorms():
                module.requires_grad_(False)

    def forward(self, x_BCHW: Tensor) -> dict[str, Tensor]:
        maps = self.backbone(x_BCHW)
        maps = [maps[i] for i in self.taken]
        levels = list(self.fpn(OrderedDict((str(i), map_BCHW) for i, map_BCHW in enumerate(maps))).values())
        x_BCHW = maps[-1]
        for i, conv in enumerate(self.added):
            x_BCHW = conv(F.relu(x_BCHW) if i and self.relu_between else x_BCHW)
            levels.append(x_BCHW)
        if self.pooled:
            levels.append(levels[-1][:, :, ::2, ::2])
        return OrderedDict((str(i), level) for i, level in enumerate(levels))

    def train(self, mode: bool = True) -> "Pyramid":
        super().train(mode)
        if self.batchnorm in ("eval", "frozen"):
            for module in self._batchnorms():
                module.eval()
        return self

    def _batchnorms(self) -> list[nn.Module]:
        return [module for module in self.backbone.modules() if isinstance(module, BatchNorm)]


class Detector(nn.Module):
    """What detectors share: a pyramid, and what is asked of its backbone."""

    pyramid: Pyramid
    num_classes: int

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the backbone's blocks in backward instead of keeping their activations."""
        self.pyramid.backbone.set_grad_checkpointing(enable)

    def no_weight_decay(self) -> set[str]:
        return {f"pyramid.backbone.{name}" for name in self.pyramid.backbone.no_weight_decay()}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return self.pyramid.backbone.group_matcher("pyramid.backbone.", coarse)


def _features(name: str, strides: Sequence[int], args: dict[str, Any]) -> tuple[Features, list[int]]:
    """The backbone, and which of its maps are of the asked strides, finest first."""
    features = Features(name, **args)
    found = [stride for stride in strides if stride in features.strides]
    coarser = [strides[len(found) - 1] * 2**i for i in range(1, len(strides) - len(found) + 1)]
    if not found or list(strides) != [*found, *coarser]:
        raise ConfigError(
            f"{name} has maps of stride {', '.join(map(str, features.strides))}; a pyramid of strides "
            f"{', '.join(map(str, strides))} needs them from {strides[0]} on, each twice the one before."
        )
    taken = [features.strides.index(stride) for stride in found]
    if found[-1] < features.strides[-1]:  # what lies behind would be computed, and never learn
        features = Features(name, **args, out_indices=tuple(range(features.taken[taken[-1]] + 1)))
    return features, taken


def init_convolutions(module: nn.Module, init: Any) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            init(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _he_uniform(weight: Tensor) -> None:
    nn.init.kaiming_uniform_(weight, a=1)


def lift(x: Tensor) -> Tensor:
    """To float32 where autocast computed in less: coordinates to a thousand need more than 8 bits."""
    return x if x.dtype == torch.float64 else x.float()
