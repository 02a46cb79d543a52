"""CMT with everything folded that can be: what is left is convolutions, LayerNorm, attention and GELU.

BatchNorm behind a convolution folds into it; behind GELU it folds into the convolution that follows. A constant added to all
keys changes no softmax, and one added to all values passes through it as it is: the biases of k vanish, those of v move into
the projection.

Tensors: B batch, C channels, D hidden channels, H rows, W columns, N queries, M keys, h heads.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridvit.deploy.folding import (
    ShiftedConv,
    fold_ahead,
    fold_behind,
    scale_and_shift,
    weight_and_bias,
)
from hybridvit.deploy.fused import Fused, attention
from hybridvit.kernels.convolution import Activation, Conv, as_tokens, linear
from hybridvit.kernels.kept import Kept
from hybridvit.kernels.layers import plus_identity
from hybridvit.kernels.state import is_eager, may_overwrite
from hybridvit.models import cmt, position
from hybridvit.models.position import Bias, Grid, PositionBias

_GELU: dict[str, Activation] = {"none": "gelu", "tanh": "gelu_tanh"}


class Stem(nn.Sequential):
    """Three convolutions with GELU; the last BatchNorm is left to the convolution that follows.

    Shape: (B, C, H, W) -> (B, C', ceil(H / 2), ceil(W / 2)).
    """

    def __init__(self, stem: nn.Sequential, gelu: Activation) -> None:
        first, *others = plain = cast(list[cmt.ConvActNorm], list(stem))
        layers: list[nn.Module] = [Conv(*weight_and_bias(first.conv), stride=2, padding=1, activation=gelu)]
        for before, layer in zip(plain, others, strict=False):
            scale, shift = scale_and_shift(before.norm)
            layers.append(ShiftedConv(*weight_and_bias(layer.conv), scale=scale, shift=shift, activation=gelu))
        super().__init__(*layers)


class LightweightAttention(nn.Module):
    """Shape: map (B, C, H, W), residual of the same shape, bias or None -> the residual, with attention added."""

    def __init__(self, attn: cmt.LightweightAttention) -> None:
        super().__init__()
        self.heads = attn.heads
        q_weight, q_bias = (x * attn.scale for x in weight_and_bias(attn.q))
        kv_weight, kv_bias = weight_and_bias(attn.kv)
        v_weight, v_bias = kv_weight.chunk(2)[1], kv_bias.chunk(2)[1]
        self.reduce: nn.Module | None = None
        if attn.reduce is None:
            self.qkv = linear(torch.cat((q_weight, kv_weight)), F.pad(q_bias, (0, len(kv_bias))))
        else:
            self.q, self.kv = linear(q_weight, q_bias), linear(kv_weight, None)
            self.reduce, v_shift = _reduction(attn.reduce)
            v_bias = v_bias + v_weight @ v_shift
        proj_weight, proj_bias = weight_and_bias(attn.proj)
        self.proj = linear(proj_weight, proj_bias + proj_weight @ v_bias)
        self.position = None if attn.position is None else Baked(attn.position)

    def forward(self, x_BCHW: Tensor, residual_BCHW: Tensor, bias: Bias | None) -> Tensor:
        grid = (x_BCHW.shape[2], x_BCHW.shape[3])
        if self.reduce is None:
            q_BNC, k_BMC, v_BMC = as_tokens(self.qkv(x_BCHW)).chunk(3, dim=2)
        else:
            q_BNC = as_tokens(self.q(x_BCHW))
            k_BMC, v_BMC = as_tokens(self.kv(self.reduce(x_BCHW))).chunk(2, dim=2)
        if self.position is not None:
            bias = self.position(grid)
        y_BNC = attention(q_BNC, k_BMC, v_BMC, heads=self.heads, bias=bias)
        return self.proj(y_BNC.unflatten(1, grid).permute(0, 3, 1, 2), residual_BCHW)


def _reduction(reduce: cmt.KeyValueReduction) -> tuple[nn.Module, Tensor]:
    """The coarser map but for a constant per channel, and that constant: the keys need none, of the values it is split off."""
    weight, bias = weight_and_bias(reduce.conv)
    stride, groups = reduce.conv.stride[0], reduce.conv.groups
    if isinstance(reduce.norm, nn.BatchNorm2d):
        weight, bias = fold_behind(weight, bias, reduce.norm)
        return Conv(weight, None, stride=stride, groups=groups), bias
    conv = Conv(weight, None if reduce.conv.bias is None else bias, stride=stride, groups=groups)
    return nn.Sequential(conv, reduce.norm), torch.zeros_like(bias)


class AbsolutePosition(nn.Module):
    """FlyEgle's table as a map. Shape: grid -> (1, C, H, W)."""

    map_1CHW: Tensor

    def __init__(self, table_1NC: Tensor, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.register_buffer("map_1CHW", table_1NC.detach().transpose(1, 2).unflatten(2, grid).contiguous())

    def forward(self, grid: Grid) -> Tensor:
        return position.resize_map(self.map_1CHW, grid)

    resized = forward


class Baked(nn.Module):
    """A position table's result, computed once for a grid; the last other grids' are kept.

    Shape: grid -> what the table gives.
    """

    baked: Tensor

    def __init__(self, table: PositionBias | AbsolutePosition) -> None:
        super().__init__()
        self.table, self.grid = table, table.grid
        self.register_buffer("baked", table(table.grid).detach().clone())
        self.any_grid = False
        """Export for pictures of any size: never compare grids, always resize."""
        self._others = Kept(2)

    def forward(self, grid: Grid) -> Any:
        if self.any_grid:
            return self.table.resized(grid)
        if grid == self.grid:
            return self.baked
        if not is_eager(self.baked):
            return self.table(grid)
        return self._others.get(grid, next(self.table.parameters(), self.baked), lambda: self.table(grid))


class InvertedResidualFFN(nn.Module):
    """Shape: map (B, C, H, W), residual of the same shape -> the residual, with the network's result added."""

    def __init__(self, ffn: cmt.InvertedResidualFFN, gelu: Activation) -> None:
        super().__init__()
        self.expand = linear(*_linear_tensors(ffn.expand.conv), activation=gelu)
        weight, bias = weight_and_bias(ffn.local.conv)
        scale, shift = scale_and_shift(ffn.expand.norm)
        outer_scale, outer_shift = scale_and_shift(ffn.local.norm)
        self.adds_behind = ffn.local.adds_behind
        if self.adds_behind:
            self.register_buffer("scale", scale[:, None, None])
            self.register_buffer("outer_scale", outer_scale[:, None, None])
            outer_scale, outer_shift = torch.ones_like(scale), outer_shift + shift
        else:
            weight = plus_identity(weight)
        self.local = ShiftedConv(weight, bias, scale=scale, shift=shift, groups=len(weight), activation=gelu)
        weight, bias = fold_ahead(*_linear_tensors(ffn.project.conv), outer_scale, outer_shift)
        self.project = linear(*fold_behind(weight, bias, ffn.project.norm))

    def forward(self, x_BCHW: Tensor, residual_BCHW: Tensor) -> Tensor:
        x_BDHW = self.expand(x_BCHW)
        y_BDHW = self.local(x_BDHW)
        if self.adds_behind:
            y_BDHW = y_BDHW.mul_(self.outer_scale) if may_overwrite(y_BDHW) else y_BDHW * self.outer_scale
            y_BDHW = y_BDHW.addcmul_(x_BDHW, self.scale)
        return self.project(y_BDHW, residual_BCHW)


def _linear_tensors(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    weight, bias = weight_and_bias(conv)
    return weight.flatten(1), bias


class Block(nn.Module):
    """Shape: (B, C, H, W), the stage's bias or None -> (B, C, H, W)."""

    def __init__(self, block: cmt.Block, gelu: Activation) -> None:
        super().__init__()
        weight, bias = weight_and_bias(block.lpu)
        self.lpu = Conv(plus_identity(weight), bias, padding=1, groups=len(weight))
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.attn = LightweightAttention(block.attn)
        self.ffn = InvertedResidualFFN(block.ffn, gelu)

    def forward(self, x_BCHW: Tensor, bias: Bias | None) -> Tensor:
        x_BCHW = self.lpu(x_BCHW)
        x_BCHW = self.attn(self.norm1(x_BCHW), x_BCHW, bias)
        return self.ffn(self.norm2(x_BCHW), x_BCHW)


class Stage(nn.Module):
    """Shape: (B, C, H, W) -> (B, C', H // 2, W // 2). `before`: a BatchNorm that the input still lacks."""

    def __init__(self, stage: cmt.Stage, gelu: Activation, before: nn.BatchNorm2d | None) -> None:
        super().__init__()
        weight, bias = weight_and_bias(stage.embed.conv)
        if before is not None:
            weight, bias = fold_ahead(weight, bias, *scale_and_shift(before))
        self.embed = Conv(weight, bias, stride=2)
        self.norm = stage.embed.norm
        self.absolute_position: Baked | None = None
        if stage.absolute_position is not None:
            self.absolute_position = Baked(AbsolutePosition(stage.absolute_position, stage.grid))
        self.position = None if stage.position is None else Baked(stage.position)
        self.blocks = nn.ModuleList(Block(block, gelu) for block in stage.blocks)  # type: ignore[arg-type]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.norm(self.embed(x_BCHW))
        grid = (x_BCHW.shape[2], x_BCHW.shape[3])
        if self.absolute_position is not None:
            x_BCHW = x_BCHW + self.absolute_position(grid)
        bias = None if self.position is None else self.position(grid)
        for block in self.blocks:
            x_BCHW = block(x_BCHW, bias)
        return x_BCHW


class Head(nn.Module):
    """Shape: (B, C, H, W) -> (B, num_classes), or (B, head_width) without classes."""

    def __init__(self, head: cmt.Head, gelu: Activation) -> None:
        super().__init__()
        self.pools_first = head.kind == "linear"
        scale: Tensor | None = None
        if head.kind == "linear":
            self.widen = linear(*weight_and_bias(head.linear))
        elif head.kind == "conv_bn_silu":
            self.widen = linear(*fold_behind(*_linear_tensors(head.conv), head.norm), activation="silu")
        else:
            self.widen = linear(*_linear_tensors(head.conv), activation=gelu)
            scale, shift = scale_and_shift(head.norm)  # pooling is linear: it waits until behind
        self.classify: nn.Module
        if isinstance(head.fc, nn.Linear):
            weight, bias = weight_and_bias(head.fc)
            if scale is not None:
                weight, bias = fold_ahead(weight, bias, scale, shift)
            self.classify = linear(weight, bias)
        elif scale is not None:
            self.classify = linear(torch.diag(scale), shift)
        else:
            self.classify = nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if self.pools_first:
            x_BC11 = self.widen(x_BCHW.mean(dim=(2, 3), keepdim=True))
        else:
            x_BC11 = self.widen(x_BCHW).mean(dim=(2, 3), keepdim=True)
        return self.classify(x_BC11).flatten(1)


class FusedCMT(Fused):
    """What `fuse` makes of a CMT."""

    def __init__(self, model: cmt.CMT) -> None:
        super().__init__()
        gelu = _GELU[model.config.gelu]
        stages = cast(list[cmt.Stage], list(model.stages))
        lacking = [cast(cmt.ConvActNorm, model.stem[-1]).norm, *[None] * (len(stages) - 1)]
        self.config = model.config
        self.stem = Stem(model.stem, gelu)
        self.stages = nn.ModuleList(Stage(stage, gelu, norm) for stage, norm in zip(stages, lacking, strict=True))
        self.head = Head(cast(cmt.Head, model.head), gelu) if model.global_pool else nn.Identity()

    def front(self, x_BCHW: Tensor, cut: int) -> Tensor:
        cmt.stage_grids(self.config, (x_BCHW.shape[2], x_BCHW.shape[3]))
        x_BCHW = self.stem(x_BCHW)
        for stage in self.stages[:cut]:
            x_BCHW = stage(x_BCHW)
        return x_BCHW

    def back(self, x_BCHW: Tensor, cut: int) -> Tensor:
        for stage in self.stages[cut:]:
            x_BCHW = stage(x_BCHW)
        return self.head(x_BCHW)
