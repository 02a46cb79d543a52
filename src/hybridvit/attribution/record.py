"""Every attention map of one forward pass, with the grids that its queries and keys lie on.

    maps = record(model, x)
    maps[-1].from_class_token()      # CvT's last block: what decides
    maps[-1].from_query(3, 4)        # what the token in row 3, column 4 reads

B batch, h heads, N queries, M keys; a grid is (rows, columns).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hybridvit.attribution.geometry import PIXELS, Axes, through
from hybridvit.errors import ConfigError
from hybridvit.models.attention import recorded_attention
from hybridvit.models.cmt import CMT
from hybridvit.models.position import Grid


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where one attention stands in the model, and where its queries and keys lie in the input."""

    index: int
    """Its place among the attentions of the model."""
    stage: int
    block: int
    query_grid: Grid
    key_grid: Grid
    query_axes: Axes
    key_axes: Axes

    @property
    def name(self) -> str:
        return f"stage {self.stage}, block {self.block}"


@dataclass(frozen=True, kw_only=True)
class AttentionMap(Site):
    """What one block's queries read of its keys."""

    weights_BhNM: Tensor
    """Rows sum to one. With a class token it is the first query and the first key."""

    @property
    def has_class_token(self) -> bool:
        return self.weights_BhNM.shape[2] > self.query_grid[0] * self.query_grid[1]

    def from_class_token(self) -> Tensor:
        """What the class token reads of the picture; its attention to itself is left out. Shape: -> (B, h, rows, columns).

        Raises: ConfigError where there is none.
        """
        if not self.has_class_token:
            raise ConfigError(f"The attention of {self.name} has no class token. Choose a point to look from.")
        return self._on_keys(self.weights_BhNM[:, :, 0])

    def from_query(self, row: int, column: int) -> Tensor:
        """What one place reads. Shape: -> (B, h, rows, columns)."""
        query = self.has_class_token + row * self.query_grid[1] + column
        return self._on_keys(self.weights_BhNM[:, :, query])

    def from_everywhere(self) -> Tensor:
        """What all places read, on average: how much each key is read. Shape: -> (B, h, rows, columns)."""
        return self._on_keys(self.weights_BhNM[:, :, int(self.has_class_token) :].mean(dim=2))

    def _on_keys(self, row_BhM: Tensor) -> Tensor:
        return row_BhM[:, :, int(self.has_class_token) :].unflatten(2, self.key_grid)


@torch.no_grad()
def record(model: nn.Module, x_BCHW: Tensor) -> list[AttentionMap]:
    """Run the model once and keep the weights of every attention, first block first. The model's mode is left as it is."""
    weights: list[Tensor] = []
    with recorded_attention(weights.append):
        model(x_BCHW)
    places = sites(model, (x_BCHW.shape[2], x_BCHW.shape[3]))
    return [AttentionMap(**vars(site), weights_BhNM=each) for site, each in zip(places, weights, strict=True)]


def sites(model: nn.Module, size: Grid) -> list[Site]:
    """Every attention of the model, with the grids that its own convolutions make of a picture of `size` pixels."""
    stem: list[Any] = [layer.conv for layer in model.stem] if isinstance(model, CMT) else []
    grid, axes = _grid_through(size, *stem), through(PIXELS, *stem)
    found: list[Site] = []
    stages: Any = model.stages
    for number, stage in enumerate(stages):
        grid, axes = _grid_through(grid, stage.embed.conv), through(axes, stage.embed.conv)
        for block_number, block in enumerate(stage.blocks):
            keys = key_convs(block)
            site = Site(
                index=len(found),
                stage=number,
                block=block_number,
                query_grid=grid,
                key_grid=_grid_through(grid, *keys),
                query_axes=axes,
                key_axes=through(axes, *keys),
            )
            found.append(site)
    return found


def key_convs(block: Any) -> list[nn.Conv2d]:
    """The convolution between a block's tokens and its keys, if there is one."""
    if hasattr(block.attn, "kv"):  # CMT
        return [] if block.attn.reduce is None else [block.attn.reduce.conv]
    return [block.attn.k.conv]


def _grid_through(grid: Grid, *convs: nn.Conv2d) -> Grid:
    for conv in convs:
        padding: Any = conv.padding
        rows, columns = (
            (side + 2 * pad - kernel) // stride + 1
            for side, pad, kernel, stride in zip(grid, padding, conv.kernel_size, conv.stride, strict=True)
        )
        grid = rows, columns
    return grid
