"""attribution/rollout.py: shares are handed back through every block and convolution, and none is lost on the way."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from hybridvit.attribution.record import record
from hybridvit.attribution.rollout import rollout, spread
from hybridvit.models import catalog


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(7, 4, 2), (3, 2, 1), (2, 2, 0), (8, 8, 0), (3, 1, 1)], ids=str
)
def test_spreading_keeps_the_sum_and_reads_the_inside_evenly(kernel: int, stride: int, padding: int) -> None:
    conv, grid = nn.Conv2d(1, 1, kernel, stride, padding), (33, 42)
    coarse = tuple((side + 2 * padding - kernel) // stride + 1 for side in grid)
    share = torch.rand(2, *coarse, dtype=torch.float64)
    torch.testing.assert_close(spread(share, conv, grid).sum(dim=(1, 2)), share.sum(dim=(1, 2)))

    even = spread(torch.ones(1, *coarse, dtype=torch.float64), conv, grid)[0, 8:-12, 8:-12]
    torch.testing.assert_close(even, torch.full_like(even, 1 / stride**2))


@pytest.mark.parametrize("name", ["cvt_nano", "cmt_nano", "cmt_ti"])
@pytest.mark.parametrize("start", [None, (0, 1)])
def test_rollout_lies_on_the_first_stage_and_sums_to_one(name: str, start: tuple[int, int] | None) -> None:
    size = (96, 128)
    model = catalog.create(name, img_size=size).eval()
    maps = record(model, torch.randn(2, 3, *size))
    share = rollout(model, maps, start=start)
    assert share.shape == (2, *maps[0].query_grid)
    torch.testing.assert_close(share.sum(dim=(1, 2)), torch.ones(2))
    assert (share >= 0).all()


def test_rollout_is_the_product_of_the_blocks_of_one_stage() -> None:
    """By hand: half identity, half attention whose keys are spread over the queries."""
    model: Any = catalog.create("cvt_nano", depths=(1, 1, 2)).eval()
    maps = record(model, torch.randn(1, 3, 48, 64))
    conv = model.stages[2].blocks[0].attn.k.conv
    first, last = maps[2:]
    (rows, columns), (key_rows, key_columns) = first.query_grid, first.key_grid
    expand = spread(torch.eye(key_rows * key_columns).unflatten(1, (key_rows, key_columns)), conv, (rows, columns))
    keys_to_queries = torch.block_diag(torch.ones(1, 1), expand.flatten(1))
    product = torch.eye(1 + rows * columns)
    for each in (last, first):
        product = product @ (
            0.5 * torch.eye(1 + rows * columns) + 0.5 * each.weights_BhNM[0].mean(dim=0) @ keys_to_queries
        )
    by_hand = product[0, 1:].unflatten(0, (rows, columns))[None]
    for number in (2, 1):
        by_hand = spread(by_hand, model.stages[number].embed.conv, maps[number - 1].query_grid)
        each = maps[number - 1]
        keys = torch.einsum("bn,bnm->bm", by_hand.flatten(1), each.weights_BhNM.mean(dim=1))
        read = spread(keys.unflatten(1, each.key_grid), conv, each.query_grid)
        by_hand = 0.5 * by_hand + 0.5 * read
    torch.testing.assert_close(rollout(model, maps), by_hand / by_hand.sum())


def test_rollout_from_a_point_leans_towards_it(square_finder: Callable[[str], nn.Module]) -> None:
    model = square_finder("cmt_nano")
    maps = record(model, torch.zeros(1, 3, 64, 64))
    first, last = rollout(model, maps, start=(0, 0))[0], rollout(model, maps, start=(3, 3))[0]
    assert first[:4, :4].sum() > 1.3 * last[:4, :4].sum()
    assert last[-4:, -4:].sum() > 1.3 * first[-4:, -4:].sum()
