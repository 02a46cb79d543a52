"""CvT, "Introducing Convolutions to Vision Transformers", arXiv 2103.15808.

A convolution makes the tokens of each stage, and a depthwise convolution looks around each token before the attention's linear
layers. What differs from a textbook transformer: the scale is dim ** -0.5 over the full width, keys and values live on a grid of
half the resolution, and the class token joins in the last stage only, where it passes every linear layer but no convolution.

Tensors: B batch, C channels, H rows, W columns, N tokens (H * W, one more with the class token), M keys.
Maps are channels-last in memory, so that (B, C, H, W) and (B, H * W, C) are two views of the same numbers.
Source: microsoft/CvT, lib/models/cls_cvt.py.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from timm.layers import DropPath, trunc_normal_
from torch import Tensor, nn

from hybridvit.errors import ConfigError
from hybridvit.kernels.checkpoint import checkpointed
from hybridvit.kernels.layers import GELU, BatchNorm2d, Linear, QuickGELU, add_to, prepend
from hybridvit.models.attention import attend, split_heads
from hybridvit.models.backbone import Backbone
from hybridvit.models.configs import CvTConfig


class ConvEmbed(nn.Module):
    """Overlapping patches to tokens: convolution, then LayerNorm.

    Shape: (B, C, H, W) -> (B, N, C'), and the new grid (H', W').
    Source: section 3.2, "Convolutional Token Embedding".
    """

    def __init__(self, in_chans: int, dim: int, *, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, dim, kernel, stride, padding)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, tuple[int, int]]:
        x_BHWC = self.conv(x_BCHW).permute(0, 2, 3, 1)
        grid = (x_BHWC.shape[1], x_BHWC.shape[2])
        return self.norm(x_BHWC.flatten(1, 2)), grid


class ConvProjection(nn.Module):
    """Depthwise 3x3 convolution and BatchNorm on the map, then a linear layer on map and class token.

    Shape: map (B, C, H, W), class token (B, 1, C) or None -> (B, M, C), M = H' * W', one more with the class token.
    Source: section 3.3, "Convolutional Projection"; cls_cvt.py, Attention._build_projection, method dw_bn.
    """

    def __init__(self, dim: int, *, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, stride, 1, groups=dim, bias=False)
        self.norm = BatchNorm2d(dim)
        self.linear = Linear(dim, dim)

    def forward(self, x_BCHW: Tensor, cls_B1C: Tensor | None) -> Tensor:
        x_BMC = self.norm(self.conv(x_BCHW)).permute(0, 2, 3, 1).flatten(1, 2)
        if cls_B1C is not None:
            x_BMC = prepend(cls_B1C, x_BMC)
        return self.linear(x_BMC)


class Attention(nn.Module):
    """Multi-head attention whose keys and values lie on a grid of half the resolution, ceil(H / 2) x ceil(W / 2).

    Shape: (B, N, C), grid -> same.
    """

    def __init__(self, dim: int, heads: int, *, proj_drop: float, attn_drop: float) -> None:
        super().__init__()
        self.heads, self.attn_drop = heads, attn_drop
        self.scale = dim**-0.5  # the full width, not the head's: in every implementation
        self.q = ConvProjection(dim, stride=1)
        self.k = ConvProjection(dim, stride=2)
        self.v = ConvProjection(dim, stride=2)
        self.proj = Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x_BNC: Tensor, grid: tuple[int, int]) -> Tensor:
        num_cls = x_BNC.shape[1] - grid[0] * grid[1]
        cls_B1C = x_BNC[:, :num_cls] if num_cls else None
        # With a class token the map is a strided slice: one copy here instead of one in each of the three convolutions.
        x_BCHW = x_BNC[:, num_cls:].contiguous().unflatten(1, grid).permute(0, 3, 1, 2)
        q, k, v = (split_heads(f(x_BCHW, cls_B1C), self.heads) for f in (self.q, self.k, self.v))
        y_BNC = attend(q, k, v, scale=self.scale, dropout=self.attn_drop if self.training else 0.0)
        return self.proj_drop(self.proj(y_BNC))


class Mlp(nn.Module):
    """Shape: (B, N, C) -> same."""

    def __init__(self, dim: int, hidden: int, activation: str, drop: float) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.act = QuickGELU() if activation == "quick_gelu" else GELU()
        self.fc2 = Linear(hidden, dim)
        self.drop = nn.Dropout(drop)

    def forward(self, x_BNC: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x_BNC)))))


class Block(nn.Module):
    """x + attention(LN x), then x + MLP(LN x).

    Shape: (B, N, C), grid -> same.
    """

    def __init__(self, cfg: CvTConfig, stage: int, *, drop_path: float, drop_rate: float, attn_drop: float) -> None:
        super().__init__()
        dim = cfg.dims[stage]
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, cfg.heads[stage], proj_drop=drop_rate, attn_drop=attn_drop)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * cfg.mlp_ratio), cfg.activation, drop_rate)
        self.drop_path = DropPath(drop_path)
        self.drops_sum = cfg.drop_path == "transformers"

    def forward(self, x_BNC: Tensor, grid: tuple[int, int]) -> Tensor:
        x_BNC = add_to(x_BNC, self.drop_path(self.attn(self.norm1(x_BNC), grid)))
        if self.drops_sum:
            return self.drop_path(add_to(x_BNC, self.mlp(self.norm2(x_BNC))))
        return add_to(x_BNC, self.drop_path(self.mlp(self.norm2(x_BNC))))


class Stage(nn.Module):
    """Embedding, the class token where the stage has one, blocks.

    Shape: (B, C, H, W) -> (B, N, C'), and the new grid (H', W').
    """

    def __init__(
        self, cfg: CvTConfig, stage: int, in_chans: int, *, drop_path_rate: float, drop_rate: float, attn_drop: float
    ) -> None:
        super().__init__()
        dim, depth = cfg.dims[stage], cfg.depths[stage]
        self.embed = ConvEmbed(
            in_chans,
            dim,
            kernel=cfg.embed_kernels[stage],
            stride=cfg.embed_strides[stage],
            padding=cfg.embed_paddings[stage],
        )
        is_last = stage == len(cfg.dims) - 1
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if is_last else None
        self.drop = nn.Dropout(drop_rate)
        rates = np.linspace(0, drop_path_rate, depth).tolist()
        if cfg.drop_path == "transformers":
            rates = [rates[min(stage, depth - 1)]] * depth
        self.blocks = nn.ModuleList(
            Block(cfg, stage, drop_path=rate, drop_rate=drop_rate, attn_drop=attn_drop) for rate in rates
        )
        self.grad_checkpointing = False

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, tuple[int, int]]:
        x_BNC, grid = self.embed(x_BCHW)
        if self.cls_token is not None:
            x_BNC = torch.cat((self.cls_token.expand(x_BNC.shape[0], -1, -1), x_BNC), dim=1)
        x_BNC = self.drop(x_BNC)
        for block in self.blocks:
            x_BNC = (
                checkpointed(block, x_BNC, grid) if self.grad_checkpointing and self.training else block(x_BNC, grid)
            )
        return x_BNC, grid


class CvT(Backbone):
    """Convolutional vision transformer.

    Shape: (B, in_chans, H, W) of any H, W of at least 3 -> (B, num_classes), or (B, C) with num_classes=0.

    Args:
        drop_rate: dropout of tokens, projections and MLPs (the authors' DROP_RATE); the classifier has none.
        drop_path_rate: stochastic depth of the last stage, rising linearly over its blocks; the other stages have none.
        global_pool: "token" (the class token), "avg" (mean of the others), or "" (all tokens, unpooled).
        img_size: accepted as every model of the catalogue does, and unused: nothing in CvT is tied to a size.
    """

    classifier = "head"
    pools = ("token", "avg", "")

    def __init__(
        self,
        cfg: CvTConfig,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        img_size: int | tuple[int, int] | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        global_pool: str = "token",
    ) -> None:
        super().__init__()
        self.config, self.num_classes, self.in_chans, self.global_pool = cfg, num_classes, in_chans, global_pool
        self.num_features = self.head_hidden_size = cfg.dims[-1]
        self.stages = nn.ModuleList()
        self.feature_info = []
        reduction = 1
        for stage, dim in enumerate(cfg.dims):
            is_last = stage == len(cfg.dims) - 1
            self.stages.append(
                Stage(
                    cfg,
                    stage,
                    cfg.dims[stage - 1] if stage else in_chans,
                    drop_path_rate=drop_path_rate if is_last else 0.0,
                    drop_rate=drop_rate,
                    attn_drop=attn_drop_rate,
                )
            )
            reduction *= cfg.embed_strides[stage]
            self.feature_info.append({"num_chs": dim, "reduction": reduction, "module": f"stages.{stage}"})
        self.norm: nn.Module = nn.LayerNorm(cfg.dims[-1])
        self.head = nn.Linear(cfg.dims[-1], num_classes) if num_classes else nn.Identity()
        self.init_weights()

    def init_weights(self) -> None:
        """Truncated normal of 0.02 for linear layers and the class token, the framework's default for the rest."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, Stage) and module.cls_token is not None:
                trunc_normal_(module.cls_token, std=0.02)

    def forward_head(self, x_BNC: Tensor, pre_logits: bool = False) -> Tensor:
        """Shape: (B, 1 + N, C) -> (B, num_classes); before the classifier with `pre_logits`."""
        if self.global_pool == "token":
            x_BNC = x_BNC[:, 0]
        x = self.norm(x_BNC)
        if self.global_pool == "avg":
            x = x[:, 1:].mean(dim=1)
        return x if pre_logits else self.head(x)

    def forward_stages(self, x_BCHW: Tensor, num_stages: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Each stage's tokens, class token first where there is one, and their map. Shapes: (B, N, C), (B, C, H, W)."""
        if min(x_BCHW.shape[-2:]) < 3:
            size = tuple(x_BCHW.shape[-2:])
            raise ConfigError(f"A picture of {size} pixels is too small for CvT: it needs at least 3 x 3.")
        for stage in self.stages[:num_stages]:
            x_BNC, grid = stage(x_BCHW)
            num_cls = x_BNC.shape[1] - grid[0] * grid[1]
            x_BCHW = x_BNC[:, num_cls:].unflatten(1, grid).permute(0, 3, 1, 2)
            yield x_BNC, x_BCHW

    def norm_map(self, map_BCHW: Tensor) -> Tensor:
        return self.norm(map_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def prune_head(self, *, prune_norm: bool) -> None:
        self.head = nn.Identity()
        if prune_norm:
            self.norm = nn.Identity()

    def no_weight_decay(self) -> set[str]:
        return {f"stages.{len(self.stages) - 1}.cls_token"}

    def group_matcher(self, coarse: bool = False) -> dict[str, str | Sequence[Any]]:
        """Parameter groups in order of depth, for layer-wise learning-rate decay."""
        return {
            "stem": r"^stages\.0\.embed",
            "blocks": r"^stages\.(\d+)"
            if coarse
            else [
                (r"^stages\.(\d+)\.(?:embed|cls_token)", (0,)),
                (r"^stages\.(\d+)\.blocks\.(\d+)", None),
                (r"^norm", (99999,)),
            ],
        }
