"""CMT-S as one writes it down from the paper: torch's own layers, softmax written out. What ours is measured against.

Tensors: B batch, C channels, D hidden channels, H rows, W columns, N queries, M keys, h heads, d channels of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_gelu_norm(dim_in: int, dim_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(dim_in, dim_out, kernel, stride, kernel // 2)
    return nn.Sequential(conv, nn.GELU(), nn.BatchNorm2d(dim_out))


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(dim, dim) for _ in range(4))
        reduce = nn.Conv2d(dim, dim, reduction, reduction, groups=dim)
        self.reduce = nn.Sequential(reduce, nn.BatchNorm2d(dim)) if reduction > 1 else nn.Identity()

    def forward(self, x_BCHW: Tensor, bias_hNM: Tensor) -> Tensor:
        x_BNC, y_BMC = (x.flatten(2).transpose(1, 2) for x in (x_BCHW, self.reduce(x_BCHW)))
        q, k, v = (
            f(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for f, x in ((self.to_q, x_BNC), (self.to_k, y_BMC), (self.to_v, y_BMC))
        )
        weight_BhNM = (q @ k.transpose(2, 3) * self.scale + bias_hNM).softmax(dim=-1)
        y_BNC = (weight_BhNM @ v).transpose(1, 2).flatten(2)
        return self.to_out(y_BNC).transpose(1, 2).unflatten(2, x_BCHW.shape[2:])


class Block(nn.Module):
    def __init__(self, dim: int, heads: int, reduction: int) -> None:
        super().__init__()
        hidden = 4 * dim
        self.local = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, reduction)
        self.expand = conv_gelu_norm(dim, hidden, 1)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.norm = nn.BatchNorm2d(hidden)
        self.project = nn.Sequential(nn.Conv2d(hidden, dim, 1), nn.BatchNorm2d(dim))

    def forward(self, x_BCHW: Tensor, bias_hNM: Tensor) -> Tensor:
        x_BCHW = x_BCHW + self.local(x_BCHW)
        x_BCHW = x_BCHW + self.attention(self._normed(self.norm1, x_BCHW), bias_hNM)
        y_BDHW = self.expand(self._normed(self.norm2, x_BCHW))
        y_BDHW = self.norm(F.gelu(y_BDHW + self.depthwise(y_BDHW)))
        return x_BCHW + self.project(y_BDHW)

    @staticmethod
    def _normed(norm: nn.LayerNorm, x_BCHW: Tensor) -> Tensor:
        return norm(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PlainCMT(nn.Module):
    """CMT-S for pictures of 224 x 224 pixels. Shape: (B, 3, 224, 224) -> (B, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_gelu_norm(3, 32, 3, 2), conv_gelu_norm(32, 32, 3), conv_gelu_norm(32, 32, 3))
        self.embeds, self.norms, self.stages = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.biases = nn.ParameterList()
        dim_in, side = 32, 112
        for dim, depth, heads, reduction in zip(
            (64, 128, 256, 512), (3, 3, 16, 3), (1, 2, 4, 8), (8, 4, 2, 1), strict=True
        ):
            side //= 2
            self.embeds.append(nn.Conv2d(dim_in, dim, 2, 2))
            self.norms.append(nn.LayerNorm(dim))
            self.stages.append(nn.ModuleList(Block(dim, heads, reduction) for _ in range(depth)))
            self.biases.append(nn.Parameter(torch.randn(heads, side**2, (side // reduction) ** 2)))
            dim_in = dim
        self.head = nn.Sequential(nn.Conv2d(512, 1280, 1), nn.BatchNorm2d(1280), nn.SiLU())
        self.classify = nn.Linear(1280, 1000)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.stem(x_BCHW)
        for embed, norm, blocks, bias_hNM in zip(self.embeds, self.norms, self.stages, self.biases, strict=True):
            x_BCHW = norm(embed(x_BCHW).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            for block in blocks:  # type: ignore[attr-defined]
                x_BCHW = block(x_BCHW, bias_hNM)
        return self.classify(self.head(x_BCHW).mean(dim=(2, 3)))
