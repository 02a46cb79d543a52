"""Attention over many places, a tile of its weights at a time, forwards and backwards: they never stand in memory as a whole.

Tensors: B batch, N queries, M keys, h heads, d channels of a query, e channels of a value, n queries of a tile.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from hybridvit.kernels.products import is_slow_in_torch, matmul
from hybridvit.kernels.state import is_plain

LEAST_WEIGHTS = 1e5
"""Pairs of a query and a key from which a head's attention is computed here instead of by torch's kernel."""

TILE = 2**20
"""Pairs of a query and a key that are computed at a time: 4 MB, which the cache holds."""


def attention_is_better(q_BhNd: Tensor, k_BhMd: Tensor, bias_hNM: Tensor | None) -> bool:
    """Whether attention without dropout is large enough, and torch's kernel is slow or would keep its weights.

    It keeps them where the bias has a gradient, and runs on MKL where that is slow.
    """
    if q_BhNd.shape[2] * k_BhMd.shape[2] < LEAST_WEIGHTS:
        return False
    if bias_hNM is None:
        return is_slow_in_torch(q_BhNd)
    return is_plain(q_BhNd) and bias_hNM.requires_grad and torch.is_grad_enabled()


def attention(q_BhNd: Tensor, k_BhMd: Tensor, v_BhMe: Tensor, scale: float, bias_hNM: Tensor | None = None) -> Tensor:
    """softmax(q k^T * scale + bias) v. Shape: (B, h, N, d), (B, h, M, d), (B, h, M, e), (h, N, M) -> (B, h, N, e)."""
    return _Attention.apply(q_BhNd, k_BhMd, v_BhMe, scale, bias_hNM)


class _Attention(torch.autograd.Function):
    """Keeps no weights: each tile's are computed once more in the backward pass. Like torch's kernel it has one derivative."""

    @staticmethod
    def forward(
        ctx: Any, q_BhNd: Tensor, k_BhMd: Tensor, v_BhMe: Tensor, scale: float, bias_hNM: Tensor | None
    ) -> Tensor:
        q_BhNd, k_BhMd, v_BhMe = q_BhNd.contiguous(), k_BhMd.contiguous(), v_BhMe.contiguous()
        ctx.save_for_backward(q_BhNd, k_BhMd, v_BhMe, bias_hNM)
        ctx.scale = scale
        y_BhNe = q_BhNd.new_empty(*q_BhNd.shape[:3], v_BhMe.shape[3])
        for at, tiles in _heads(q_BhNd, k_BhMd):
            k_Md, v_eM = k_BhMd[at] * scale, v_BhMe[at].t().contiguous()
            for rows in tiles:
                weight_nM = _weights(q_BhNd[at][rows], k_Md, None if bias_hNM is None else bias_hNM[at[1], rows])
                y_BhNe[at][rows] = _product(weight_nM, v_eM)
        return y_BhNe

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BhNe: Tensor) -> tuple[Tensor, Tensor, Tensor, None, Tensor | None]:
        q_BhNd, k_BhMd, v_BhMe, bias_hNM = ctx.saved_tensors
        grad_q, grad_k, grad_v = (torch.zeros_like(x) for x in (q_BhNd, k_BhMd, v_BhMe))
        grad_bias = bias_hNM.new_zeros(bias_hNM.shape) if ctx.needs_input_grad[4] else None
        grad_BhNe = grad_BhNe.contiguous()
        for at, tiles in _heads(q_BhNd, k_BhMd):
            k_Md = k_BhMd[at] * ctx.scale
            k_dM = k_Md.t()
            for rows in tiles:
                q_nd, grad_ne = q_BhNd[at][rows], grad_BhNe[at][rows]
                weight_nM = _weights(q_nd, k_Md, None if bias_hNM is None else bias_hNM[at[1], rows])
                grad_v[at] += _product(grad_ne.t(), weight_nM.t()).t()
                grad_weight_nM = _product(grad_ne, v_BhMe[at])
                grad_score_nM = torch._softmax_backward_data(grad_weight_nM, weight_nM, -1, weight_nM.dtype)
                grad_q[at][rows] = _product(grad_score_nM, k_dM)
                grad_k[at] += _product(q_nd.t(), grad_score_nM.t()).t()
                if grad_bias is not None:
                    grad_bias[at[1], rows] += grad_score_nM
        return grad_q, grad_k.mul_(ctx.scale), grad_v, None, grad_bias


def _heads(q_BhNd: Tensor, k_BhMd: Tensor) -> Iterator[tuple[tuple[int, int], list[slice]]]:
    """Every picture and head, and how its queries are cut into tiles."""
    batch, heads, queries, _ = q_BhNd.shape
    step = max(1, TILE // k_BhMd.shape[2])
    tiles = [slice(start, start + step) for start in range(0, queries, step)]
    return ((at, tiles) for at in ((picture, head) for picture in range(batch) for head in range(heads)))


def _weights(q_nd: Tensor, k_Md: Tensor, bias_nM: Tensor | None) -> Tensor:
    score_nM = _product(q_nd, k_Md)
    if bias_nM is not None:
        score_nM += bias_nM
    return torch.softmax(score_nM, dim=-1, out=score_nM)


def _product(x: Tensor, weight_DC: Tensor) -> Tensor:
    """Shape: (n, C), (D, C) -> (n, D)."""
    return matmul(x, weight_DC) if is_slow_in_torch(x) else F.linear(x, weight_DC)
