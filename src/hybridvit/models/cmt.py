"""CMT, "Convolutional Neural Networks Meet Vision Transformers", arXiv 2107.06263.

A convolutional stem, then four stages. Each starts with a 2x2 convolution of stride 2 and repeats a block of three parts:
local perception (a depthwise 3x3 convolution), lightweight attention (keys and values on a coarser grid, a learned position
bias), and an inverted residual feed-forward network (1x1, depthwise 3x3, 1x1). There is no class token.

Four arithmetics were published under this name; how they differ stands in configs.py.

Tensors: B batch, C channels, D hidden channels, H rows, W columns, N = H * W queries, M keys, h heads, d channels of a head.
Maps are channels-last in memory, so that (B, C, H, W) and (B, N, C) are two views of the same numbers.
Source: huawei-noah/Efficient-AI-Backbones, cmt_pytorch/cmt.py (the authors).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from timm.layers import DropPath, LayerNorm2d, to_2tuple, trunc_normal_
from torch import Tensor, nn

from hybridvit.errors import ConfigError
from hybridvit.kernels.checkpoint import checkpointed
from hybridvit.kernels.layers import GELU, BatchNorm2d, Linear, Pointwise, ResidualDepthwise, add_to
from hybridvit.kernels.recompute import act_norm
from hybridvit.models import position
from hybridvit.models.attention import attend, split_heads
from hybridvit.models.backbone import Backbone
from hybridvit.models.configs import CMTConfig
from hybridvit.models.position import Bias, Grid, PositionBias


class ConvActNorm(nn.Module):
    """Convolution, then GELU where `gelu` is given, then BatchNorm: the authors' unusual order.

    Shape: (B, C, H, W) -> (B, C', H', W').
    """

    def __init__(self, dim_in: int, dim_out: int, kernel: int, *, stride: int = 1, gelu: str | None = None) -> None:
        super().__init__()
        self.conv = (
            nn.Conv2d(dim_in, dim_out, kernel, stride, kernel // 2) if kernel > 1 else Pointwise(dim_in, dim_out)
        )
        self.act = nn.Identity() if gelu is None else GELU(approximate=gelu)
        self.norm = BatchNorm2d(dim_out)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return act_norm(self.conv(x_BCHW), self.act, self.norm)


class PatchAggregation(nn.Module):
    """Halve the resolution with a 2x2 convolution of stride 2.

    Shape: (B, C, H, W) -> (B, C', H // 2, W // 2).
    Source: section 3.1, "patch aggregation".
    """

    def __init__(self, dim_in: int, dim_out: int, *, norm_eps: float | None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim_in, dim_out, 2, 2)
        self.norm = nn.Identity() if norm_eps is None else LayerNorm2d(dim_out, eps=norm_eps)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.norm(self.conv(x_BCHW))


class LightweightAttention(nn.Module):
    """Attention with keys and values from a grid made coarser by a convolution of kernel = stride = `reduction`.

    Shape: (B, C, H, W), the stage's bias or None -> (B, C, H, W).
    Source: section 3.2, "Lightweight Multi-head Self-attention".
    """

    def __init__(self, cfg: CMTConfig, stage: int, grid: Grid, *, attn_drop: float, proj_drop: float) -> None:
        super().__init__()
        dim, self.heads, self.reduction = cfg.dims[stage], cfg.heads[stage], cfg.reductions[stage]
        self.scale, self.attn_drop = (dim // self.heads) ** -0.5, attn_drop
        self.q = Linear(dim, dim, bias=cfg.qkv_bias)
        self.kv = Linear(dim, 2 * dim, bias=cfg.qkv_bias)
        self.reduce = KeyValueReduction(cfg, dim, self.reduction) if self.reduction > 1 else None
        self.proj = Linear(dim, dim, bias=cfg.proj_bias)
        self.proj_drop = nn.Dropout(proj_drop)
        self.position: PositionBias | None = None
        if cfg.position not in (None, "table"):
            self.position = PositionBias(cfg.position, heads=self.heads, grid=grid, reduction=self.reduction)

    def forward(self, x_BCHW: Tensor, bias: Bias | None) -> Tensor:
        grid = (x_BCHW.shape[2], x_BCHW.shape[3])
        q_BhNd = split_heads(self.q(_to_tokens(x_BCHW)), self.heads)
        kv_BMC = self.kv(_to_tokens(x_BCHW if self.reduce is None else self.reduce(x_BCHW)))
        k_BhMd, v_BhMd = (split_heads(x, self.heads) for x in kv_BMC.chunk(2, dim=-1))
        if self.position is not None:
            bias = self.position(grid)
        dropout = self.attn_drop if self.training else 0.0
        y_BNC = attend(q_BhNd, k_BhMd, v_BhMd, scale=self.scale, bias=bias, dropout=dropout)
        return self.proj_drop(self.proj(y_BNC)).transpose(1, 2).unflatten(2, grid)


class KeyValueReduction(nn.Module):
    """Shape: (B, C, H, W) -> (B, C, H // reduction, W // reduction)."""

    def __init__(self, cfg: CMTConfig, dim: int, reduction: int) -> None:
        super().__init__()
        dense = cfg.reduce == "dense_ln"
        bias = dense or cfg.qkv_bias
        self.conv = nn.Conv2d(dim, dim, reduction, reduction, groups=1 if dense else dim, bias=bias)
        self.norm = BatchNorm2d(dim) if cfg.reduce == "depthwise_bn" else LayerNorm2d(dim, eps=1e-5)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.norm(self.conv(x_BCHW))


class LocalConv(nn.Module):
    """Depthwise 3x3 convolution, GELU, BatchNorm and a residual, which joins before or behind the two.

    Shape: (B, D, H, W) -> same.
    """

    def __init__(self, dim: int, *, residual: str, gelu: str) -> None:
        super().__init__()
        self.adds_behind = residual == "outside"
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim) if self.adds_behind else ResidualDepthwise(dim)
        self.act = GELU(approximate=gelu)
        self.norm = BatchNorm2d(dim)

    def forward(self, x_BDHW: Tensor) -> Tensor:
        y_BDHW = act_norm(self.conv(x_BDHW), self.act, self.norm)
        return add_to(x_BDHW, y_BDHW) if self.adds_behind else y_BDHW


class InvertedResidualFFN(nn.Module):
    """1x1 convolution to D channels, depthwise 3x3 around each pixel, 1x1 back.

    Shape: (B, C, H, W) -> same.
    Source: section 3.2, "Inverted Residual Feed-forward Network".
    """

    def __init__(self, cfg: CMTConfig, dim: int, *, drop: float) -> None:
        super().__init__()
        hidden = int(dim * cfg.ffn_ratio)
        self.expand = ConvActNorm(dim, hidden, 1, gelu=cfg.gelu)
        self.local = LocalConv(hidden, residual=cfg.local_residual, gelu=cfg.gelu)
        self.project = ConvActNorm(hidden, dim, 1)
        self.drop = nn.Dropout(drop)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BDHW = self.drop(self.expand(x_BCHW))
        return self.drop(self.project(self.local(x_BDHW)))


class Block(nn.Module):
    """Local perception, attention, feed-forward, each with its residual.

    Shape: (B, C, H, W), the stage's bias or None -> (B, C, H, W).
    """

    def __init__(
        self, cfg: CMTConfig, stage: int, grid: Grid, *, drop_path: float, attn_drop: float, proj_drop: float
    ) -> None:
        super().__init__()
        dim = cfg.dims[stage]
        self.lpu = ResidualDepthwise(dim)
        self.norm1 = LayerNorm2d(dim, eps=cfg.block_eps)
        self.attn = LightweightAttention(cfg, stage, grid, attn_drop=attn_drop, proj_drop=proj_drop)
        self.norm2 = LayerNorm2d(dim, eps=cfg.block_eps)
        self.ffn = InvertedResidualFFN(cfg, dim, drop=proj_drop if cfg.ffn_drop else 0.0)
        self.drop_path1 = DropPath(drop_path if cfg.attn_drop_path else 0.0)
        self.drop_path2 = DropPath(drop_path)

    def forward(self, x_BCHW: Tensor, bias: Bias | None) -> Tensor:
        x_BCHW = self.lpu(x_BCHW)
        x_BCHW = add_to(x_BCHW, self.drop_path1(self.attn(self.norm1(x_BCHW), bias)))
        return add_to(x_BCHW, self.drop_path2(self.ffn(self.norm2(x_BCHW))))


class Stage(nn.Module):
    """Patch aggregation, then blocks that share a position table where the arithmetic says so.

    Shape: (B, C, H, W) -> (B, C', H // 2, W // 2).
    """

    def __init__(
        self,
        cfg: CMTConfig,
        stage: int,
        grid: Grid,
        *,
        drop_paths: Sequence[float],
        attn_drop: float,
        proj_drop: float,
    ) -> None:
        super().__init__()
        dim, dim_in = cfg.dims[stage], cfg.dims[stage - 1] if stage else cfg.stem_width
        self.embed = PatchAggregation(dim_in, dim, norm_eps=cfg.embed_eps if cfg.embed_norm else None)
        self.absolute_position: nn.Parameter | None = None
        if cfg.absolute_position and stage == 0:
            self.absolute_position = nn.Parameter(torch.empty(1, grid[0] * grid[1], dim))
        self.position: PositionBias | None = None
        if cfg.position == "table":
            self.position = PositionBias("table", heads=cfg.heads[stage], grid=grid, reduction=cfg.reductions[stage])
        self.blocks = nn.ModuleList(
            Block(cfg, stage, grid, drop_path=rate, attn_drop=attn_drop, proj_drop=proj_drop) for rate in drop_paths
        )
        self.grid = grid
        self.grad_checkpointing = False

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.embed(x_BCHW)
        grid = (x_BCHW.shape[2], x_BCHW.shape[3])
        if self.absolute_position is not None:
            x_BCHW = x_BCHW + self._absolute_map(self.absolute_position, grid)
        bias = None if self.position is None else self.position(grid)
        for block in self.blocks:
            x_BCHW = (
                checkpointed(block, x_BCHW, bias) if self.grad_checkpointing and self.training else block(x_BCHW, bias)
            )
        return x_BCHW

    def _absolute_map(self, table_1NC: Tensor, grid: Grid) -> Tensor:
        map_1CHW = table_1NC.transpose(1, 2).unflatten(2, self.grid)
        return map_1CHW if grid == self.grid else position.resize_map(map_1CHW, grid)

    @torch.no_grad()
    def set_grid(self, grid: Grid) -> None:
        """Resize every table of the stage to queries on `grid`."""
        if self.absolute_position is not None:
            map_1CHW = self._absolute_map(self.absolute_position, grid)
            self.absolute_position = nn.Parameter(map_1CHW.flatten(2).transpose(1, 2).contiguous())
        for module in self.modules():
            if isinstance(module, PositionBias):
                module.set_grid(grid)
        self.grid = grid


class Head(nn.Module):
    """Wider features, average pooling, dropout, classifier.

    Shape: (B, C, H, W) -> (B, num_classes), or (B, head_width) with `pre_logits`.
    """

    def __init__(self, cfg: CMTConfig, num_classes: int, *, drop_rate: float) -> None:
        super().__init__()
        self.kind = cfg.head
        if cfg.head == "linear":
            self.linear = nn.Linear(cfg.dims[-1], cfg.head_width)
        else:
            self.conv = nn.Conv2d(cfg.dims[-1], cfg.head_width, 1)
            self.norm = BatchNorm2d(cfg.head_width)
            self.act = nn.SiLU() if cfg.head == "conv_bn_silu" else nn.GELU()
        self.drop = nn.Dropout(drop_rate)
        self.fc = nn.Linear(cfg.head_width, num_classes) if num_classes else nn.Identity()

    def forward(self, x_BCHW: Tensor, pre_logits: bool = False) -> Tensor:
        if self.kind == "linear":
            x = self.linear(x_BCHW.mean(dim=(2, 3)))
        else:
            x_BCHW = self.conv(x_BCHW)
            x_BCHW = self.act(self.norm(x_BCHW)) if self.kind == "conv_bn_silu" else self.norm(self.act(x_BCHW))
            x = x_BCHW.mean(dim=(2, 3))
        x = self.drop(x)
        return x if pre_logits else self.fc(x)


class CMT(Backbone):
    """Convolutions and attention in every block.

    Shape: (B, in_chans, H, W) -> (B, num_classes), or (B, head_width) with num_classes=0. H and W are any of at least 32 for
    the published sizes, and need not be equal.

    Args:
        img_size: rows and columns of the pictures that the position tables are made for; others are resized on the fly.
        drop_rate: dropout before the classifier; None for what the authors of this arithmetic use.
        attn_drop_rate, proj_drop_rate: likewise, of attention weights and of projections.
        drop_path_rate: stochastic depth, rising linearly over all blocks.
        global_pool: "avg", or "" for the last stage's map, past the head, which then learns nothing.
    """

    classifier = "head.fc"
    pools = ("avg", "")
    head_needs_pool = True

    def __init__(
        self,
        cfg: CMTConfig,
        *,
        img_size: int | tuple[int, int],
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float | None = None,
        attn_drop_rate: float | None = None,
        proj_drop_rate: float | None = None,
        drop_path_rate: float = 0.0,
        global_pool: str = "avg",
    ) -> None:
        super().__init__()
        self.config, self.num_classes, self.in_chans, self.global_pool = cfg, num_classes, in_chans, global_pool
        self.img_size: tuple[int, int] = to_2tuple(img_size)
        self.num_features, self.head_hidden_size = cfg.dims[-1], cfg.head_width
        self.stem = nn.Sequential(
            ConvActNorm(in_chans, cfg.stem_width, 3, stride=2, gelu=cfg.gelu),
            ConvActNorm(cfg.stem_width, cfg.stem_width, 3, gelu=cfg.gelu),
            ConvActNorm(cfg.stem_width, cfg.stem_width, 3, gelu=cfg.gelu),
        )
        steps = sum(cfg.depths) + (cfg.drop_path_end == "beyond")
        rates = iter(np.linspace(0, drop_path_rate, steps).tolist())
        self.stages = nn.ModuleList(
            Stage(
                cfg,
                stage,
                grid,
                drop_paths=[next(rates) for _ in range(cfg.depths[stage])],
                attn_drop=cfg.attn_drop_rate if attn_drop_rate is None else attn_drop_rate,
                proj_drop=cfg.proj_drop_rate if proj_drop_rate is None else proj_drop_rate,
            )
            for stage, grid in enumerate(stage_grids(cfg, self.img_size))
        )
        self.feature_info = [
            {"num_chs": dim, "reduction": 4 * 2**stage, "module": f"stages.{stage}"}
            for stage, dim in enumerate(cfg.dims)
        ]
        self.head: nn.Module = Head(cfg, num_classes, drop_rate=cfg.head_dropout if drop_rate is None else drop_rate)
        self.head.requires_grad_(bool(global_pool))
        self.init_weights()

    def init_weights(self) -> None:
        """Linear layers: truncated normal of 0.02. Convolutions: He, fan out. Tables: as `position_init` says."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None and self.config.zero_conv_bias:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, PositionBias):
                if self.config.position_init == "normal":
                    nn.init.normal_(module.table)
                elif self.config.position_init == "trunc_normal":
                    trunc_normal_(module.table, std=0.2)
                else:
                    nn.init.zeros_(module.table)
            elif isinstance(module, Stage) and module.absolute_position is not None:
                trunc_normal_(module.absolute_position, std=0.2)

    def forward_stages(self, x_BCHW: Tensor, num_stages: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Each stage's map, as features and as map. Shape: (B, C, H, W), twice."""
        stage_grids(self.config, (x_BCHW.shape[2], x_BCHW.shape[3]))
        x_BCHW = self.stem(x_BCHW)
        for stage in self.stages[:num_stages]:
            x_BCHW = stage(x_BCHW)
            yield x_BCHW, x_BCHW

    def forward_head(self, x_BCHW: Tensor, pre_logits: bool = False) -> Tensor:
        """Shape: (B, C, H, W) -> (B, num_classes); before the classifier with `pre_logits`."""
        return self.head(x_BCHW, pre_logits) if self.global_pool else x_BCHW

    def prune_head(self, *, prune_norm: bool) -> None:
        self.head = nn.Identity()  # the last map has no norm: the head's belongs to its convolution

    def set_input_size(self, img_size: int | tuple[int, int]) -> None:
        """Resize the position tables to another picture size."""
        self.img_size = to_2tuple(img_size)
        for stage, grid in zip(self.stages, stage_grids(self.config, self.img_size), strict=False):
            stage.set_grid(grid)  # type: ignore[operator]

    def no_weight_decay(self) -> set[str]:
        """FlyEgle's absolute positions. The authors' own set names nothing that exists: their tables decay, and so do ours."""
        return {"stages.0.absolute_position"} if self.config.absolute_position else set()

    def group_matcher(self, coarse: bool = False) -> dict[str, str | Sequence[Any]]:
        """Parameter groups in order of depth, for layer-wise learning-rate decay."""
        return {
            "stem": r"^stem",
            "blocks": r"^stages\.(\d+)"
            if coarse
            else [
                (r"^stages\.(\d+)\.(?:embed|position|absolute_position)", (0,)),
                (r"^stages\.(\d+)\.blocks\.(\d+)", None),
                (r"^head\.(?:conv|norm|linear)", (99999,)),
            ],
        }


def stage_grids(cfg: CMTConfig, size: Grid) -> list[Grid]:
    """The query grid of each stage for a picture of `size` pixels.

    Raises: ConfigError where a stage, or its coarser grid of keys, would have no place left.
    """
    smallest = max(2 ** (stage + 2) * reduction for stage, reduction in enumerate(cfg.reductions))
    rows, columns = ((pixels + 1) // 2 for pixels in size)  # the stem's padded 3x3 convolution of stride 2
    grids = []
    for reduction in cfg.reductions:
        rows, columns = rows // 2, columns // 2
        if min(rows, columns) < reduction:
            raise ConfigError(
                f"A picture of {size[0]} x {size[1]} pixels is too small for this CMT: "
                f"it needs at least {smallest} x {smallest}. Resize it, or take a smaller model such as cmt_nano."
            )
        grids.append((rows, columns))
    return grids


def _to_tokens(x_BCHW: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, N, C): a view, as maps are channels-last."""
    return x_BCHW.flatten(2).transpose(1, 2)
