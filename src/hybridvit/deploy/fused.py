"""What fused models share: large maps are computed a few pictures at a time, so that they stay in the cache.

Tensors: B batch, C channels, H rows, W columns, N queries, M keys, h heads, d channels of a head.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hybridvit.kernels.convolution import is_fast
from hybridvit.kernels.state import overwrites
from hybridvit.models.attention import attend, split_heads
from hybridvit.models.position import Bias


class Chunk(NamedTuple):
    """How a batch is cut: the first `stages` stages take `pictures` at a time, the rest, and always the last, the whole batch."""

    pictures: int
    stages: int


class Fused(nn.Module):
    """A model for inference only: the answers of the plain one from fewer and faster kernels.

    Shape: (B, in_chans, H, W) -> what the plain model gives.
    """

    in_chans: int
    stages: nn.ModuleList
    chunk = Chunk(pictures=1, stages=2)
    """The default fits caches of a few MiB; `engines.tune` measures."""

    def front(self, x_BCHW: Tensor, cut: int) -> Tensor:
        """The first stages, up to `cut`. Shape: (B, C, H, W) -> their map."""
        raise NotImplementedError

    def back(self, x_BCHW: Tensor, cut: int) -> Tensor:
        """The other stages and the head. Shape: a map -> (B, num_classes)."""
        raise NotImplementedError

    @overwrites
    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        pictures, stages = self.chunk
        cut = min(stages, len(self.stages) - 1)
        if torch.compiler.is_compiling() or len(x_BCHW) <= pictures or x_BCHW.device.type != "cpu":
            return self.back(self.front(x_BCHW, cut), cut)
        return self.back(torch.cat([self.front(few, cut) for few in x_BCHW.split(pictures)]), cut)


def attention(q_BNC: Tensor, k_BMC: Tensor, v_BMC: Tensor, *, heads: int, bias: Bias | None = None) -> Tensor:
    """softmax(q k^T + bias) v; the scale is folded into q. Shape: (B, N, C), twice (B, M, C) -> (B, N, C)."""
    q_BhNd, k_BhMd, v_BhMd = (split_heads(x, heads) for x in (q_BNC, k_BMC, v_BMC))
    if not isinstance(bias, Tensor) or not is_fast(q_BNC):
        return attend(q_BhNd, k_BhMd, v_BhMd, scale=1.0, bias=bias)
    y_BNC = torch.empty_like(q_BNC)
    for y_NC, q_hNd, k_hMd, v_hMd in zip(y_BNC, q_BhNd, k_BhMd, v_BhMd, strict=True):
        weight_hNM = torch.baddbmm(bias, q_hNd, k_hMd.transpose(1, 2)).softmax(dim=-1)
        y_NC.unflatten(1, (heads, -1)).copy_((weight_hNM @ v_hMd).transpose(0, 1))
    return y_BNC
