"""Products by oneDNN instead of MKL, which has no best code for other processors than Intel's: forwards and backwards.

Tensors: B batch, C channels, D channels out, N tokens or queries, M keys, h heads, d channels of a head, n queries of a tile.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LEAST_PRODUCTS = 1e7
"""Multiply-accumulates from which a product with gradients is worth a tenth of a millisecond of Python."""

LEAST_WEIGHTS = 1e5
"""Pairs of a query and a key from which a head's attention is computed here instead of by torch's kernel."""

TILE = 2**20
"""Pairs of a query and a key that are computed at a time: 4 MB, which the cache holds."""


def is_plain(x: Tensor) -> bool:
    """Whether `x` is computed on a CPU, call by call, as it is: not cast, compiled, traced, counted or transformed."""
    return (
        x.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._are_functorch_transforms_active()
    )


def linear_is_faster(x: Tensor, dim_out: int) -> bool:
    """Whether a linear layer from `x` to this width would run on MKL where MKL is slow, and is large enough."""
    return _is_slow_in_torch(x) and (not torch.is_grad_enabled() or x.numel() * dim_out >= LEAST_PRODUCTS)


def attention_is_faster(q_BhNd: Tensor, k_BhMd: Tensor) -> bool:
    """Whether attention without bias and dropout would run on MKL where MKL is slow, and is large enough."""
    return _is_slow_in_torch(q_BhNd) and q_BhNd.shape[2] * k_BhMd.shape[2] >= LEAST_WEIGHTS


def _is_slow_in_torch(x: Tensor) -> bool:
    return is_plain(x) and x.dtype == torch.float32 and bool(torch.backends.mkldnn.enabled) and _mkl_is_slow()


@cache
def _mkl_is_slow() -> bool:
    name = str(torch.cpu.get_capabilities().get("cpu_name", ""))
    return torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available() and "Intel" not in name


def linear(x: Tensor, weight_DC: Tensor, bias_D: Tensor | None) -> Tensor:
    """Shape: (..., C), (D, C), (D,) or None -> (..., D)."""
    if torch.is_grad_enabled():
        return _Linear.apply(x, weight_DC, bias_D)
    return _matmul(x, weight_DC, bias_D)


class _Linear(torch.autograd.Function):
    """oneDNN's product has no derivative in torch. A 1x1 convolution would have, at the cost of a slow sum for the bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_DC: Tensor, bias_D: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight_DC)
        return _matmul(x, weight_DC, bias_D)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight_DC = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        grad_x = grad_weight = grad_bias = None
        if needs_x:
            grad_x = linear(grad, weight_DC.t(), None)
        if needs_weight:
            # stride, padding, dilation, transposed, its padding, groups, and which gradients are wanted
            geometry = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1, [False, True, False])
            maps = (_as_row(grad), _as_row(x), weight_DC[:, :, None, None])
            grad_weight = torch.ops.aten.convolution_backward(*maps, None, *geometry)[1].flatten(1)
        if needs_bias:
            grad_bias = grad.flatten(0, -2).sum(0)
        return grad_x, grad_weight, grad_bias


def _matmul(x: Tensor, weight_DC: Tensor, bias_D: Tensor | None = None) -> Tensor:
    """Shape: (..., C), (D, C), (D,) or None -> (..., D)."""
    return torch.ops.mkldnn._linear_pointwise.default(x, weight_DC, bias_D, "none", [], "")


def _as_row(x: Tensor) -> Tensor:
    """All tokens as a map of one row, channels-last. Shape: (..., C) -> (1, C, 1, N)."""
    return x.flatten(0, -2)[None, None].permute(0, 3, 1, 2)


def attention(q_BhNd: Tensor, k_BhMd: Tensor, v_BhMd: Tensor, scale: float) -> Tensor:
    """softmax(q k^T * scale) v. Shape: (B, h, N, d), twice (B, h, M, d) -> (B, h, N, d)."""
    return _Attention.apply(q_BhNd, k_BhMd, v_BhMd, scale)


class _Attention(torch.autograd.Function):
    """Keeps no weights: each tile's are computed once more in the backward pass. Like torch's kernel it has one derivative."""

    @staticmethod
    def forward(ctx: Any, q_BhNd: Tensor, k_BhMd: Tensor, v_BhMd: Tensor, scale: float) -> Tensor:
        q_BhNd, k_BhMd, v_BhMd = q_BhNd.contiguous(), k_BhMd.contiguous(), v_BhMd.contiguous()
        ctx.save_for_backward(q_BhNd, k_BhMd, v_BhMd)
        ctx.scale = scale
        y_BhNd = torch.empty_like(q_BhNd)
        for q_Nd, k_Md, v_Md, y_Nd in _heads(q_BhNd, k_BhMd * scale, v_BhMd, y_BhNd):
            v_dM = v_Md.t().contiguous()
            for q_nd, y_nd in _tiles(len(k_Md), q_Nd, y_Nd):
                y_nd.copy_(_matmul(_weights(q_nd, k_Md), v_dM))
        return y_BhNd

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BhNd: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q_BhNd, k_BhMd, v_BhMd = ctx.saved_tensors
        grad_q, grad_k, grad_v = (torch.zeros_like(x) for x in ctx.saved_tensors)
        heads = _heads(q_BhNd, k_BhMd * ctx.scale, v_BhMd, grad_BhNd.contiguous(), grad_q, grad_k, grad_v)
        for q_Nd, k_Md, v_Md, grad_Nd, grad_q_Nd, grad_k_Md, grad_v_Md in heads:
            for q_nd, grad_nd, grad_q_nd in _tiles(len(k_Md), q_Nd, grad_Nd, grad_q_Nd):
                weight_nM = _weights(q_nd, k_Md)
                grad_v_Md += _matmul(grad_nd.t(), weight_nM.t()).t()
                grad_weight_nM = _matmul(grad_nd, v_Md)
                grad_score_nM = torch._softmax_backward_data(grad_weight_nM, weight_nM, -1, torch.float32)
                grad_q_nd.copy_(_matmul(grad_score_nM, k_Md.t()))
                grad_k_Md += _matmul(q_nd.t(), grad_score_nM.t()).t()
        return grad_q, grad_k.mul_(ctx.scale), grad_v, None


def _heads(*of_BhNd: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Each picture's and head's part of every tensor. Shape: (B, h, N, d) each -> (N, d) each, B * h times."""
    return zip(*(x.flatten(0, 1) for x in of_BhNd), strict=True)


def _tiles(keys: int, *of_Nd: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """As many rows of every tensor at a time as make one tile of weights. Shape: (N, d) each -> (n, d) each."""
    return zip(*(x.split(max(1, TILE // keys)) for x in of_Nd), strict=True)


def _weights(q_nd: Tensor, k_Md: Tensor) -> Tensor:
    score_nM = _matmul(q_nd, k_Md)
    return torch.softmax(score_nM, dim=-1, out=score_nM)
