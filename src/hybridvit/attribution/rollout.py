"""Attention rollout through stages: what a decision draws on, followed back from block to block to the first stage's tokens.

Abnar and Zuidema, arXiv 2005.00928, count a block as half residual, half attention averaged over its heads, and multiply. That
is made for equal grids; here convolutions lie between, so these are counted in the same way:

- A convolution with stride reads the tokens under its kernel, the middle ones most: weights fall linearly to the edge, which for
  the kernels of both families (3 with stride 2, 7 with stride 4) makes every token be read equally. A kernel as large as its
  stride reads its tile evenly.
- CMT's local perception, x + dw(x), is half the token, half its 3x3 neighbours; its feed-forward network with the inner residual
  three quarters and one quarter.
- CvT's class token starts as a constant. What is left on it at the beginning of the last stage says nothing about the picture;
  the rest is scaled to a sum of one.

So signs, values and the channels' mixing are ignored: rollout says where information can come from, not what it argues for.

B batch, h, w rows and columns.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridvit.attribution.record import AttentionMap, key_convs
from hybridvit.models.position import Grid


def rollout(model: nn.Module, maps: list[AttentionMap], *, start: Grid | None = None) -> Tensor:
    """Relevance of the first stage's tokens for the decision, or for one token of the last stage.

    `maps`: from `record`. `start`: row and column of the last stage's token to look from; None: the class token, or where there
    is none all tokens alike, as the head averages them. Shape: -> (B, h, w) of the first stage, with a sum of one.
    """
    last = maps[-1]
    batch, _, num_queries, _ = last.weights_BhNM.shape
    share_BN = torch.zeros(batch, num_queries).to(last.weights_BhNM)
    if start is not None:
        share_BN[:, last.has_class_token + start[0] * last.query_grid[1] + start[1]] = 1
    elif last.has_class_token:
        share_BN[:, 0] = 1
    else:
        share_BN[:] = 1 / num_queries

    grids = {each.stage: each.query_grid for each in maps}
    stages: Any = model.stages
    for number in reversed(range(len(stages))):
        stage, grid = stages[number], grids[number]
        for each in reversed([each for each in maps if each.stage == number]):
            share_BN = _through_block(stage.blocks[each.block], each, share_BN)
        share_Bhw = share_BN[:, int(last.has_class_token and number == last.stage) :].unflatten(1, grid)
        if number:
            share_BN = spread(share_Bhw, stage.embed.conv, grids[number - 1]).flatten(1)
    return share_Bhw / share_Bhw.sum(dim=(1, 2), keepdim=True)


def _through_block(block: Any, attention: AttentionMap, share_BN: Tensor) -> Tensor:
    """Shares of a block's outputs to shares of its inputs. Shape: (B, N) -> same."""
    grid, num_cls = attention.query_grid, int(attention.has_class_token)
    is_cmt = hasattr(block, "lpu")
    if is_cmt:
        share_BN = 0.75 * share_BN + 0.25 * spread(share_BN.unflatten(1, grid), block.ffn.local.conv, grid).flatten(1)
    read_BM = torch.einsum("bn,bnm->bm", share_BN, attention.weights_BhNM.mean(dim=1))
    read_Bhw = read_BM[:, num_cls:].unflatten(1, attention.key_grid)
    for conv in key_convs(block):
        read_Bhw = spread(read_Bhw, conv, grid)
    share_BN = 0.5 * share_BN + 0.5 * torch.cat((read_BM[:, :num_cls], read_Bhw.flatten(1)), dim=1)
    if is_cmt:
        share_BN = 0.5 * share_BN + 0.5 * spread(share_BN.unflatten(1, grid), block.lpu, grid).flatten(1)
    return share_BN


def spread(share_Bhw: Tensor, conv: nn.Conv2d, grid: Grid) -> Tensor:
    """Hand each output's share to the places that a convolution read it from; none is lost.

    Shape: (B, h', w') -> (B, *grid), the grid that the convolution reads.
    """
    kernel = _reading_weights(conv).to(share_Bhw)
    padding: Any = conv.padding

    def read(map_B1hw: Tensor) -> Tensor:
        inside = F.conv2d(torch.ones_like(map_B1hw), kernel, stride=conv.stride, padding=padding)
        return F.conv2d(map_B1hw, kernel, stride=conv.stride, padding=padding) / inside

    transpose: Any = torch.func.vjp(read, share_Bhw.new_zeros(len(share_Bhw), 1, *grid))[1]
    return transpose(share_Bhw[:, None])[0][:, 0]


def _reading_weights(conv: nn.Conv2d) -> Tensor:
    """How much of each token under the kernel is read. Shape: -> (1, 1, kernel rows, kernel columns)."""
    size, stride = conv.kernel_size[0], conv.stride[0]  # every kernel of both families is square
    side = torch.ones(size) if size == stride else (size + 1) / 2 - (torch.arange(size) - (size - 1) / 2).abs()
    return torch.outer(side, side)[None, None]
