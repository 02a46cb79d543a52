"""GELU, then BatchNorm, in training: of the three maps around them only the first is kept, the others are computed again.

Where a model's widest maps are, they are nearly all that a training step holds. What is kept otherwise: the convolution's
result for GELU, GELU's for BatchNorm, BatchNorm's for the weights of the next convolution.

Tensors: B batch, C channels, H rows, W columns.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from hybridvit.kernels.checkpoint import is_checkpointed
from hybridvit.kernels.state import has_hooks, is_plain

LEAST_NUMBERS = 2**22
"""Numbers in a map from which its memory, 16 MB, is worth computing it again."""

aten = torch.ops.aten


def act_norm(x_BCHW: Tensor, act: nn.Module, norm: nn.Module) -> Tensor:
    """norm(act(x)). Shape: (B, C, H, W) -> same."""
    if not _is_worth_it(x_BCHW, act, norm):
        return norm(act(x_BCHW))
    assert isinstance(act, nn.GELU)
    assert isinstance(norm, nn.BatchNorm2d)
    momentum = norm.momentum
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        momentum = 1.0 / float(norm.num_batches_tracked) if momentum is None else momentum
    again = None if is_checkpointed() else _Again(x_BCHW, norm.weight, norm.bias, act.approximate, norm.eps)
    running = (norm.running_mean, norm.running_var)
    y_BCHW = _GeluNorm.apply(x_BCHW, norm.weight, norm.bias, running, momentum, norm.eps, act.approximate, again)
    if again is not None:
        again.result, y_BCHW.again = (y_BCHW.data_ptr(), y_BCHW.stride()), again
    return y_BCHW


def _is_worth_it(x: Tensor, act: nn.Module, norm: nn.Module) -> bool:
    return (
        is_plain(x)
        and x.requires_grad
        and torch.is_grad_enabled()
        and x.numel() >= LEAST_NUMBERS
        and isinstance(act, nn.GELU)
        and isinstance(norm, nn.BatchNorm2d)
        and norm.training
        and norm.track_running_stats
        and norm.affine
        and not any(_has_any_hooks(module) for module in (act, norm))
    )


def _has_any_hooks(module: nn.Module) -> bool:
    return has_hooks(module) or bool(module._backward_hooks or module._backward_pre_hooks)


def kept_again(x: Tensor) -> AbstractContextManager[Any]:
    """Within this context a layer that keeps `x` for its backward pass keeps only how to compute it, where that is known."""
    again: _Again | None = getattr(x, "again", None)
    return nullcontext() if again is None else saved_tensors_hooks(again.pack, _unpack)


class _Again:
    """How to compute gelu(x) and norm(gelu(x)) once more."""

    def __init__(self, x: Tensor, weight: Tensor, bias: Tensor, approximate: str, eps: float) -> None:
        self.inputs = x.detach(), weight.detach(), bias.detach()
        self.approximate, self.eps = approximate, eps
        self.result: tuple[int, tuple[int, ...]] | None = None
        self.activated: Tensor | None = None

    def pack(self, tensor: Tensor) -> Tensor | Callable[[], Tensor]:
        """Of a view of the result, what computes that view; of other tensors, themselves."""
        assert self.result is not None
        address, stride = self.result
        if tensor.data_ptr() != address or tensor.numel() != self.inputs[0].numel():
            return tensor
        shape, view = tensor.shape, tensor.stride()
        assert sorted(view) == sorted(stride)
        return lambda: self.norm().as_strided(shape, view)

    def norm(self) -> Tensor:
        x, weight, bias = self.inputs
        self.activated = F.gelu(x, approximate=self.approximate)  # the next backward pass is BatchNorm's, and takes it
        return torch.native_batch_norm(self.activated, weight, bias, None, None, True, 0.0, self.eps)[0]


def _unpack(packed: Tensor | Callable[[], Tensor]) -> Tensor:
    if isinstance(packed, Tensor):
        return packed
    with torch.no_grad():
        return packed()


class _GeluNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running: tuple[Tensor, Tensor],
        momentum: float,
        eps: float,
        approximate: str,
        again: _Again | None,
    ) -> Tensor:
        activated = F.gelu(x, approximate=approximate)
        y, mean, invstd = torch.native_batch_norm(activated, weight, bias, *running, True, momentum, eps)
        ctx.save_for_backward(x, weight, bias, mean, invstd)
        ctx.eps, ctx.approximate, ctx.again = eps, approximate, again
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, invstd = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient of the gradient is asked for
            wanted = [
                tensor for tensor, is_wanted in zip((x, weight, bias), ctx.needs_input_grad, strict=False) if is_wanted
            ]
            y = F.batch_norm(F.gelu(x, approximate=ctx.approximate), None, None, weight, bias, True, 0.0, ctx.eps)
            found = iter(torch.autograd.grad(y, wanted, grad, create_graph=True))
            return (*(next(found) if is_wanted else None for is_wanted in ctx.needs_input_grad[:3]), *[None] * 5)
        activated = None if ctx.again is None else ctx.again.activated
        if activated is None:
            activated = F.gelu(x, approximate=ctx.approximate)
        else:
            ctx.again.activated = None
        statistics = (None, None, mean, invstd, True, ctx.eps)
        grads = aten.native_batch_norm_backward(grad, activated, weight, *statistics, list(ctx.needs_input_grad[:3]))
        del activated
        grad_x, grad_weight, grad_bias = grads
        grad_x = aten.gelu_backward(grad_x, x, approximate=ctx.approximate) if ctx.needs_input_grad[0] else None
        return grad_x, grad_weight, grad_bias, None, None, None, None, None
