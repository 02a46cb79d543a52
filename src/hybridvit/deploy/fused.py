"""What fused models share: large maps are computed a few pictures at a time, so that they stay in the cache."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


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

    @property
    def cut(self) -> int:
        return min(self.chunk.stages, len(self.stages) - 1)

    def front(self, x_BCHW: Tensor) -> Tensor:
        """The first stages, up to `cut`. Shape: (B, C, H, W) -> their map."""
        raise NotImplementedError

    def back(self, x_BCHW: Tensor) -> Tensor:
        """The other stages and the head. Shape: a map -> (B, num_classes)."""
        raise NotImplementedError

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        if torch.compiler.is_compiling() or len(x_BCHW) <= self.chunk.pictures or x_BCHW.device.type != "cpu":
            return self.back(self.front(x_BCHW))
        return self.back(torch.cat([self.front(few) for few in x_BCHW.split(self.chunk.pictures)]))
