"""Products by oneDNN instead of MKL, which has no best code for other processors than Intel's: forwards and backwards.

Tensors: C channels, D channels out, N tokens.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from hybridvit.kernels.state import is_plain

LEAST_PRODUCTS = 1e7
"""Multiply-accumulates from which a product with gradients is worth a tenth of a millisecond of Python."""


def linear_is_faster(x: Tensor, dim_out: int) -> bool:
    """Whether a linear layer from `x` to this width would run on MKL where MKL is slow, and is large enough."""
    return is_slow_in_torch(x) and (not torch.is_grad_enabled() or x.numel() * dim_out >= LEAST_PRODUCTS)


def is_slow_in_torch(x: Tensor) -> bool:
    """Whether a product of `x` would run on MKL where MKL is slow."""
    return is_plain(x) and x.dtype == torch.float32 and bool(torch.backends.mkldnn.enabled) and _mkl_is_slow()


@cache
def _mkl_is_slow() -> bool:
    name = str(torch.cpu.get_capabilities().get("cpu_name", ""))
    return torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available() and "Intel" not in name


def linear(x: Tensor, weight_DC: Tensor, bias_D: Tensor | None) -> Tensor:
    """Shape: (..., C), (D, C), (D,) or None -> (..., D)."""
    if torch.is_grad_enabled():
        return _Linear.apply(x, weight_DC, bias_D)
    return matmul(x, weight_DC, bias_D)


class _Linear(torch.autograd.Function):
    """oneDNN's product has no derivative in torch. A 1x1 convolution would have, at the cost of a slow sum for the bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_DC: Tensor, bias_D: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight_DC)
        return matmul(x, weight_DC, bias_D)

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


def matmul(x: Tensor, weight_DC: Tensor, bias_D: Tensor | None = None) -> Tensor:
    """Shape: (..., C), (D, C), (D,) or None -> (..., D)."""
    return torch.ops.mkldnn._linear_pointwise.default(x, weight_DC, bias_D, "none", [], "")


def _as_row(x: Tensor) -> Tensor:
    """All tokens as a map of one row, channels-last. Shape: (..., C) -> (1, C, 1, N)."""
    return x.flatten(0, -2)[None, None].permute(0, 3, 1, 2)
