"""Position biases: the tables that are learned, the bias they give, and the way to another grid.

A grid is (rows, columns); queries lie on it, keys on `key_grid(grid, reduction)`. h heads, N queries, M keys.

Four tables are published, each an arithmetic of its own:

    table         (h, N, M)                            per pair. huawei, cmt.py: one per stage, shared by its blocks
    offsets       (2 rows - 1, 2 columns - 1)          per offset key - query, shared by the heads. FlyEgle, cmt.py, rpe
    dense         (N, N)                               per pair of queries, shared by the heads. FlyEgle, cmt.py, pe_nd
    head_offsets  (h, (2 rows - 1) * (2 columns - 1))  per head and offset query - key. kecam, beit.py

The last three are gathered to N x N although the keys lie on a coarser grid; of its columns FlyEgle keeps the first M and kecam
the last M. To compute what they compute, so do we.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridvit.kernels.kept import Kept
from hybridvit.kernels.state import is_eager

Grid = tuple[int, int]
PositionKind = Literal["table", "offsets", "dense", "head_offsets"]


class ResizedBias(NamedTuple):
    """A table of pairs on another grid than its own: resizing the keys is a product, which attention can take over.

    m keys of the table's own grid. The bias of a dense picture, N x M, then never stands in memory.
    """

    queries_hNm: Tensor
    keys_mM: Tensor

    def written_out(self) -> Tensor:
        """Shape: -> (h, N, M)."""
        return self.queries_hNm @ self.keys_mM


Bias = Tensor | ResizedBias
"""What is added to attention's scores: (h, N, M), or (N, M) where the heads share it."""


class PositionBias(nn.Module):
    """A learned table and the bias that it gives on any grid; on another one than its own it is resized on the fly.

    On a CPU the last resized tables are kept until the table changes; with gradients, and on devices that would wait for the
    comparison, they are computed each time.
    """

    index_NM: Tensor | None

    def __init__(self, kind: PositionKind, *, heads: int, grid: Grid, reduction: int) -> None:
        super().__init__()
        self.kind, self.reduction = kind, reduction
        self.table = nn.Parameter(torch.empty(table_shape(kind, heads=heads, grid=grid, reduction=reduction)))
        self._kept = Kept(4, by_value=True)
        self._remember(grid)

    def forward(self, grid: Grid) -> Bias:
        if grid == self.grid:
            return bias(self.kind, self.table, grid=grid, reduction=self.reduction, index_NM=self.index_NM)
        if not is_eager(self.table):  # traced for all grids, or counted: the products below are none of the model's
            return self.resized(grid)
        if (torch.is_grad_enabled() and self.table.requires_grad) or self.table.device.type != "cpu":
            return self._on(grid, self._resize(grid))
        return self._on(grid, self._kept.get(grid, self.table, lambda: self._resize(grid)))

    def _resize(self, grid: Grid) -> Tensor:
        """The table on another grid; of a table of pairs, for its own keys."""
        if self.kind != "table":
            return resize_table(self.kind, self.table, old=self.grid, new=grid, reduction=self.reduction)
        return resize_map(self.table.transpose(1, 2).unflatten(2, self.grid), grid).flatten(2).transpose(1, 2)

    def _on(self, grid: Grid, table: Tensor) -> Bias:
        if self.kind != "table":
            return bias(self.kind, table, grid=grid, reduction=self.reduction)
        old, new = (key_grid(each, self.reduction) for each in (self.grid, grid))
        each_key = torch.eye(old[0] * old[1], dtype=table.dtype, device=table.device).unflatten(1, old)
        return ResizedBias(table, resize_map(each_key, new).flatten(1))

    def resized(self, grid: Grid) -> Tensor:
        """The bias on another grid, written out: its graph serves all grids."""
        table = resize_table(self.kind, self.table, old=self.grid, new=grid, reduction=self.reduction)
        return bias(self.kind, table, grid=grid, reduction=self.reduction)

    @torch.no_grad()
    def set_grid(self, grid: Grid) -> None:
        """Resize the table itself."""
        table = resize_table(self.kind, self.table, old=self.grid, new=grid, reduction=self.reduction)
        self.table = nn.Parameter(table.contiguous())
        self._remember(grid)

    def _remember(self, grid: Grid) -> None:
        self.grid = grid
        has_offsets = self.kind in ("offsets", "head_offsets")
        index_NM = offset_index(self.kind, grid, self.reduction).to(self.table.device) if has_offsets else None
        self.register_buffer("index_NM", index_NM, persistent=False)


def key_grid(grid: Grid, reduction: int) -> Grid:
    return grid[0] // reduction, grid[1] // reduction


def table_shape(kind: PositionKind, *, heads: int, grid: Grid, reduction: int) -> tuple[int, ...]:
    """The shape of the learned table for queries on `grid`."""
    rows, columns = grid
    key_rows, key_columns = key_grid(grid, reduction)
    return {
        "table": (heads, rows * columns, key_rows * key_columns),
        "offsets": (2 * rows - 1, 2 * columns - 1),
        "dense": (rows * columns, rows * columns),
        "head_offsets": (heads, (2 * rows - 1) * (2 * columns - 1)),
    }[kind]


def bias(kind: PositionKind, table: Tensor, *, grid: Grid, reduction: int, index_NM: Tensor | None = None) -> Tensor:
    """What is added to the attention scores, from a table that fits `grid`.

    Shape: `table_shape` -> (h, N, M), or (N, M) where the heads share it. `index_NM`: `offset_index`, if it is at hand.
    """
    if kind == "table":
        return table
    rows, columns = key_grid(grid, reduction)
    if kind == "dense":
        return table[:, : rows * columns]
    index_NM = offset_index(kind, grid, reduction).to(table.device) if index_NM is None else index_NM
    return table.flatten()[index_NM] if kind == "offsets" else table[:, index_NM]


def offset_index(kind: PositionKind, grid: Grid, reduction: int) -> Tensor:
    """Where the offset of each (query, key) pair stands in a flattened table of offsets. Shape: -> (N, M), int64."""
    rows, columns = grid
    key_rows, key_columns = key_grid(grid, reduction)
    num_keys = key_rows * key_columns
    place_N2 = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), dim=-1).flatten(
        0, 1
    )
    if kind == "offsets":
        offset_NM2 = place_N2[None, :num_keys] - place_N2[:, None]
    else:
        offset_NM2 = place_N2[:, None] - place_N2[None, rows * columns - num_keys :]
    return (offset_NM2[..., 0] + rows - 1) * (2 * columns - 1) + offset_NM2[..., 1] + columns - 1


def resize_table(kind: PositionKind, table: Tensor, *, old: Grid, new: Grid, reduction: int) -> Tensor:
    """The table for queries on grid `new`, from one for grid `old`: bicubic, the query grid first, then the key grid."""
    if not torch.compiler.is_compiling() and old == new:  # a comparison would tie an exported model to one size
        return table
    if kind == "table":
        return _resize_pairs(table, (old, key_grid(old, reduction)), (new, key_grid(new, reduction)))
    if kind == "dense":
        return _resize_pairs(table, (old, old), (new, new))
    old_span, new_span = ((2 * rows - 1, 2 * columns - 1) for rows, columns in (old, new))
    if kind == "offsets":
        return resize_map(table, new_span)
    return resize_map(table.unflatten(-1, old_span), new_span).flatten(-2)


def resize_map(map_HW: Tensor, grid: Grid) -> Tensor:
    """Bicubic resize of any stack of maps, computed in float32 at least. Shape: (..., H, W) -> (..., *grid)."""
    lead, size = map_HW.shape[:-2], map_HW.shape[-2:]
    wide = map_HW.reshape(1, -1, *size).to(torch.promote_types(map_HW.dtype, torch.float32))
    return F.interpolate(wide, size=grid, mode="bicubic", align_corners=False).reshape(*lead, *grid).to(map_HW.dtype)


def _resize_pairs(table_NM: Tensor, old: tuple[Grid, Grid], new: tuple[Grid, Grid]) -> Tensor:
    """Shape: (..., N, M) -> (..., N', M'), for `old` and `new` = (query grid, key grid)."""
    queries_last = resize_map(table_NM.transpose(-2, -1).unflatten(-1, old[0]), new[0]).flatten(-2)
    return resize_map(queries_last.transpose(-2, -1).unflatten(-1, old[1]), new[1]).flatten(-2)
