"""Attention in tiles that are computed once more in the backward pass, against the form that is written out."""

import pytest
import torch
from torch import Tensor

from hybridvit.kernels import tiles
from hybridvit.models.attention import attend, explicit_attention
from hybridvit.models.position import PositionBias, ResizedBias
from support import relative_error


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tiles of 13 queries, which divide nothing. Returns a list that each call of the kernel adds to."""
    monkeypatch.setattr(tiles, "LEAST_WEIGHTS", 0)
    monkeypatch.setattr(tiles, "TILE", 300)
    calls: list[int] = []
    monkeypatch.setattr(tiles, "attention", lambda *args, tiled=tiles.attention: calls.append(1) or tiled(*args))
    return calls


def values_and_gradients(inputs: list[Tensor], bias: Tensor | ResizedBias | None, *of_bias: Tensor) -> list[Tensor]:
    y_BNC = attend(*inputs, scale=0.7, bias=bias)
    weights = torch.linspace(-1, 2, y_BNC.numel(), dtype=y_BNC.dtype).reshape(y_BNC.shape)
    return [y_BNC, *torch.autograd.grad((y_BNC * weights).sum(), [*inputs, *of_bias])]


def queries_keys_values(batch: int, heads: int, queries: int, keys: int, dtype: torch.dtype) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    of_BNC = (torch.randn(batch, n, heads * 4, generator=draw, dtype=dtype) for n in (queries, keys, keys))
    return [x.unflatten(2, (heads, 4)).transpose(1, 2).requires_grad_() for x in of_BNC]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 3e-6)])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_with_a_learned_bias_values_and_all_gradients_are_those_of_the_written_out_form(
    batch: int, shared: bool, dtype: torch.dtype, tolerance: float, small_tiles: list[int]
) -> None:
    inputs = queries_keys_values(batch, 2, 35, 22, dtype)
    shape = (35, 22) if shared else (2, 35, 22)
    bias = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=dtype).requires_grad_()
    found = values_and_gradients(inputs, bias, bias)
    assert small_tiles
    with explicit_attention():
        expected = values_and_gradients(inputs, bias, bias)
    for a, b in zip(found, expected, strict=True):
        assert relative_error(a, b) < tolerance


@pytest.mark.parametrize("explicit", [False, True])
def test_a_table_on_another_grid_gives_the_values_and_gradients_of_its_written_out_bias(explicit: bool) -> None:
    position = PositionBias("table", heads=2, grid=(4, 6), reduction=2).double()
    torch.nn.init.normal_(position.table)
    inputs = queries_keys_values(2, 2, 8 * 10, 4 * 5, torch.float64)
    bias = position((8, 10))
    assert isinstance(bias, ResizedBias)
    if explicit:
        with explicit_attention():
            found = values_and_gradients(inputs, bias, position.table)
    else:
        found = values_and_gradients(inputs, bias, position.table)
    with explicit_attention():
        expected = values_and_gradients(inputs, position.resized((8, 10)), position.table)
    for a, b in zip(found, expected, strict=True):
        assert relative_error(a, b) < 1e-12


def test_a_table_on_another_grid_is_resized_once_without_gradients_and_each_time_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    position = PositionBias("table", heads=2, grid=(4, 6), reduction=2)
    torch.nn.init.normal_(position.table)
    resized: list[tuple[int, int]] = []
    monkeypatch.setattr(position, "_resize", lambda grid, do=position._resize: resized.append(grid) or do(grid))
    with torch.no_grad():
        first = [position(grid) for grid in ((8, 10), (6, 8), (8, 10))]
        assert resized == [(8, 10), (6, 8)]
        assert first[0].queries_hNm is first[2].queries_hNm
        position.table.mul_(2)
        assert torch.allclose(position((8, 10)).queries_hNm, 2 * first[0].queries_hNm)
    for _ in range(2):
        position((8, 10)).written_out().sum().backward()
    assert len(resized) == 5
    assert position.table.grad is not None


def test_half_precision_and_dropout_take_a_table_on_another_grid() -> None:
    position = PositionBias("table", heads=2, grid=(4, 6), reduction=2)
    torch.nn.init.normal_(position.table)
    inputs = queries_keys_values(2, 2, 80, 20, torch.float32)
    expected = attend(*inputs, scale=0.7, bias=position((8, 10)))
    half = [x.to(torch.bfloat16) for x in inputs]
    found = attend(*half, scale=0.7, bias=position((8, 10)))
    assert found.dtype == torch.bfloat16
    assert relative_error(found.float(), expected) < 0.05
    assert attend(*inputs, scale=0.7, bias=position((8, 10)), dropout=0.5).isfinite().all()
