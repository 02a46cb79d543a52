"""CvT with everything folded that can be.

BatchNorm folds into the depthwise convolution ahead of it. A constant added to all keys changes no softmax, and one added to
all values passes through it as it is: the bias of k vanishes, that of v moves into the projection. (The convolution's shift
does not reach the class token, so where there is one it stays.) QuickGELU is silu with both constants in the linear layers
around it.

Tensors: B batch, C channels, H rows, W columns, N tokens (one more than H * W with the class token), M keys.
"""

import torch
from torch import Tensor, nn

from hybridvit.deploy.folding import fold_behind, weight_and_bias
from hybridvit.deploy.fused import Fused, attention
from hybridvit.kernels.convolution import Conv, as_map, as_tokens, linear
from hybridvit.kernels.layers import QuickGELU
from hybridvit.models import cvt
from hybridvit.models.position import Grid


class Attention(nn.Module):
    """Shape: normed tokens (B, N, C), residual of the same shape, grid -> the residual, with attention added."""

    def __init__(self, attn: cvt.Attention) -> None:
        super().__init__()
        self.heads = attn.heads
        self.q_conv, self.k_conv, self.v_conv = (_depthwise(f) for f in (attn.q, attn.k, attn.v))
        q_weight, q_bias = (x * attn.scale for x in weight_and_bias(attn.q.linear))
        v_weight, v_bias = weight_and_bias(attn.v.linear)
        self.q, self.v = linear(q_weight, q_bias), linear(v_weight, None)
        self.k = linear(attn.k.linear.weight.detach(), None)
        weight, bias = weight_and_bias(attn.proj)
        self.proj = linear(weight, bias + weight @ v_bias)

    def forward(self, x_BNC: Tensor, residual_BNC: Tensor, grid: Grid) -> Tensor:
        num_cls = x_BNC.shape[1] - grid[0] * grid[1]
        x_BCHW = x_BNC[:, num_cls:].contiguous().unflatten(1, grid).permute(0, 3, 1, 2)
        q, k, v = (
            as_tokens(dense(_join(x_BNC[:, :num_cls], conv(x_BCHW))))
            for dense, conv in ((self.q, self.q_conv), (self.k, self.k_conv), (self.v, self.v_conv))
        )
        y_BNC = attention(q, k, v, heads=self.heads)
        return as_tokens(self.proj(as_map(y_BNC), as_map(residual_BNC)))


def _depthwise(projection: cvt.ConvProjection) -> Conv:
    conv = projection.conv
    weight, bias = fold_behind(*weight_and_bias(conv), projection.norm)
    return Conv(weight, bias, stride=conv.stride[0], padding=1, groups=conv.groups)


def _join(cls_BnC: Tensor, x_BCHW: Tensor) -> Tensor:
    """The map, or map and class token as a map of one column. Shape: (B, 0 or 1, C), (B, C, H, W) -> (B, C, N, 1)."""
    return as_map(torch.cat((cls_BnC, as_tokens(x_BCHW)), dim=1)) if cls_BnC.shape[1] else x_BCHW


class Mlp(nn.Module):
    """Shape: tokens (B, N, C), residual of the same shape -> the residual, with the network's result added."""

    def __init__(self, mlp: cvt.Mlp) -> None:
        super().__init__()
        (weight1, bias1), (weight2, bias2) = weight_and_bias(mlp.fc1), weight_and_bias(mlp.fc2)
        if isinstance(mlp.act, QuickGELU):
            self.fc1 = linear(weight1 * 1.702, bias1 * 1.702, activation="silu")
            weight2 = weight2 / 1.702
        else:
            self.fc1 = linear(weight1, bias1, activation="gelu")
        self.fc2 = linear(weight2, bias2)

    def forward(self, x_BNC: Tensor, residual_BNC: Tensor) -> Tensor:
        return as_tokens(self.fc2(self.fc1(as_map(x_BNC)), as_map(residual_BNC)))


class Block(nn.Module):
    """Shape: (B, N, C), grid -> same, in place where it may."""

    def __init__(self, block: cvt.Block) -> None:
        super().__init__()
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.attn, self.mlp = Attention(block.attn), Mlp(block.mlp)

    def forward(self, x_BNC: Tensor, grid: Grid) -> Tensor:
        x_BNC = self.attn(self.norm1(x_BNC), x_BNC, grid)
        return self.mlp(self.norm2(x_BNC), x_BNC)


class Stage(nn.Module):
    """Shape: (B, C, H, W) -> (B, N, C'), and the new grid."""

    cls_token: Tensor | None

    def __init__(self, stage: cvt.Stage) -> None:
        super().__init__()
        conv = stage.embed.conv
        self.embed = Conv(*weight_and_bias(conv), stride=conv.stride[0], padding=int(conv.padding[0]))
        self.norm = stage.embed.norm
        self.register_buffer("cls_token", None if stage.cls_token is None else stage.cls_token.detach())
        self.blocks = nn.ModuleList(Block(block) for block in stage.blocks)  # type: ignore[arg-type]

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Grid]:
        x_BCHW = self.embed(x_BCHW)
        grid = (x_BCHW.shape[2], x_BCHW.shape[3])
        x_BNC = self.norm(as_tokens(x_BCHW))
        if self.cls_token is not None:
            x_BNC = torch.cat((self.cls_token.expand(x_BNC.shape[0], -1, -1), x_BNC), dim=1)
        for block in self.blocks:
            x_BNC = block(x_BNC, grid)
        return x_BNC, grid


class FusedCvT(Fused):
    """What `fuse` makes of a CvT."""

    def __init__(self, model: cvt.CvT) -> None:
        super().__init__()
        self.stages = nn.ModuleList(Stage(stage) for stage in model.stages)  # type: ignore[arg-type]
        self.norm, self.global_pool = model.norm, model.global_pool
        self.head = nn.Identity() if isinstance(model.head, nn.Identity) else linear(*weight_and_bias(model.head))

    def front(self, x_BCHW: Tensor, cut: int) -> Tensor:
        for stage in self.stages[:cut]:
            x_BNC, grid = stage(x_BCHW)
            x_BCHW = x_BNC.unflatten(1, grid).permute(0, 3, 1, 2)
        return x_BCHW

    def back(self, x_BCHW: Tensor, cut: int) -> Tensor:
        for stage in self.stages[cut:]:
            x_BNC, grid = stage(x_BCHW)
            x_BCHW = x_BNC[:, x_BNC.shape[1] - grid[0] * grid[1] :].unflatten(1, grid).permute(0, 3, 1, 2)
        if self.global_pool == "token":
            x_BNC = x_BNC[:, :1]
        x_BNC = self.norm(x_BNC)
        if self.global_pool == "avg":
            x_BNC = x_BNC[:, 1:].mean(dim=1, keepdim=True)
        logits_BNC = as_tokens(self.head(as_map(x_BNC)))
        return logits_BNC if not self.global_pool else logits_BNC.squeeze(1)
