"""Position biases, against index arithmetic written out pair by pair."""

import pytest
import torch

from hybridvit.models import catalog, position
from hybridvit.models.position import PositionBias, ResizedBias
from support import pictures, randomise, relative_error

KINDS = ["table", "offsets", "dense", "head_offsets"]


def smooth(*shape: int) -> torch.Tensor:
    """A wave that runs through one radian along each axis."""
    waves = [torch.cos(torch.linspace(0.3, 1.3, size, dtype=torch.float64)) for size in shape]
    return torch.einsum("a,b,c,d->abcd", *waves)


@pytest.mark.parametrize("grid", [(4, 4), (4, 6)])
def test_flyegle_reads_the_offset_from_query_to_key_and_keeps_the_first_keys(grid: tuple[int, int]) -> None:
    rows, columns = grid
    table = torch.randn(2 * rows - 1, 2 * columns - 1)
    bias = position.bias("offsets", table, grid=grid, reduction=2)
    places = [(r, c) for r in range(rows) for c in range(columns)]
    for n, (query_row, query_column) in enumerate(places):
        for m, (key_row, key_column) in enumerate(places[: (rows // 2) * (columns // 2)]):
            assert bias[n, m] == table[key_row - query_row + rows - 1, key_column - query_column + columns - 1]


@pytest.mark.parametrize("grid", [(4, 4), (4, 6)])
def test_kecam_reads_the_offset_from_key_to_query_and_keeps_the_last_keys(grid: tuple[int, int]) -> None:
    rows, columns = grid
    table = torch.randn(3, (2 * rows - 1) * (2 * columns - 1))
    bias = position.bias("head_offsets", table, grid=grid, reduction=2)
    places = [(r, c) for r in range(rows) for c in range(columns)]
    for n, (query_row, query_column) in enumerate(places):
        for m, (key_row, key_column) in enumerate(places[-(rows // 2) * (columns // 2) :]):
            offset = (query_row - key_row + rows - 1) * (2 * columns - 1) + query_column - key_column + columns - 1
            assert torch.equal(bias[:, n, m], table[:, offset])


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_on_its_own_grid_is_handed_through_untouched(kind: str) -> None:
    table = torch.randn(position.table_shape(kind, heads=2, grid=(4, 6), reduction=2))
    assert position.resize_table(kind, table, old=(4, 6), new=(4, 6), reduction=2) is table


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_fits_the_grid_it_is_resized_to(kind: str) -> None:
    table = torch.randn(position.table_shape(kind, heads=2, grid=(8, 8), reduction=2))
    resized = position.resize_table(kind, table, old=(8, 8), new=(6, 10), reduction=2)
    assert resized.shape == position.table_shape(kind, heads=2, grid=(6, 10), reduction=2)
    assert position.bias(kind, resized, grid=(6, 10), reduction=2).shape[-2:] == (60, 15)


def test_resizing_a_smooth_table_there_and_back_loses_less_than_1_percent() -> None:
    """On the pair table of CMT-Ti's first stage at 160 pixels: to 224 and back."""
    table = smooth(40, 40, 5, 5).reshape(1, 1600, 25)
    there = position.resize_table("table", table, old=(40, 40), new=(56, 56), reduction=8)
    back = position.resize_table("table", there, old=(56, 56), new=(40, 40), reduction=8)
    assert there.shape == (1, 3136, 49)
    assert relative_error(back, table) < 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_a_bias_on_another_grid_equals_that_of_the_resized_table(kind: str) -> None:
    bias = PositionBias(kind, heads=2, grid=(8, 8), reduction=2).double()
    torch.nn.init.normal_(bias.table)
    on_the_fly = bias((6, 10))
    if isinstance(on_the_fly, ResizedBias):
        on_the_fly = on_the_fly.written_out()
    bias.set_grid((6, 10))
    assert relative_error(on_the_fly, bias((6, 10))) < 1e-14


@pytest.mark.parametrize("name", ["cmt_ti", "cmt_ti_flyegle", "cmt_ti_kecam"])
def test_a_resized_model_computes_what_it_computed_on_that_picture_before(name: str) -> None:
    overrides = {"absolute_position": True} if name == "cmt_ti_flyegle" else {}
    model = randomise(catalog.create(name, img_size=64, depths=(1, 1, 1, 1), **overrides)).eval()
    x = pictures(1, 96, 64)
    with torch.no_grad():
        before = model(x)
        model.set_input_size((96, 64))
        assert model.img_size == (96, 64)
        assert relative_error(model(x), before) < 1e-12


def test_a_resized_table_keeps_its_half_precision() -> None:
    table = torch.randn(1, 64, 16).bfloat16()
    assert position.resize_table("table", table, old=(8, 8), new=(4, 4), reduction=2).dtype == torch.bfloat16
