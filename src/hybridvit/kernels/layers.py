"""torch's own layers, computed with fewer passes over memory and by the faster library.

Parameters, state dicts and formulas are those of the classes they come from. Within a model (`kernels.state.overwrites`), what
no gradient and no hook needs is overwritten.

Tensors: B batch, C channels, D channels out, H rows, W columns, N tokens.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridvit.kernels import products
from hybridvit.kernels.recompute import kept_again
from hybridvit.kernels.state import is_plain, may_overwrite

aten = torch.ops.aten


class Linear(nn.Linear):
    """A linear layer, computed by oneDNN where that is the faster library. Shape: (..., C) -> (..., D)."""

    def forward(self, x: Tensor) -> Tensor:
        if not products.linear_is_faster(x, self.out_features):
            return super().forward(x)
        return products.linear(x, self.weight, self.bias)


class Pointwise(nn.Conv2d):
    """A 1x1 convolution, computed as a linear layer is. Shape: (B, C, H, W) -> (B, D, H, W)."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__(dim_in, dim_out, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        with kept_again(x_BCHW):
            if not products.linear_is_faster(x_BCHW, self.out_channels):
                return super().forward(x_BCHW)
            return products.linear(x_BCHW.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


def add_to(residual: Tensor, branch: Tensor) -> Tensor:
    """residual + branch; overwrites the branch's result where it may. Shape: two alike -> same."""
    return branch.add_(residual) if may_overwrite(branch, residual) else residual + branch


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), which is silu(1.702 x) / 1.702. Overwrites its input where it may.

    Shape: any -> same. Source: microsoft/CvT, lib/models/cls_cvt.py, QuickGELU.
    """

    def forward(self, x: Tensor) -> Tensor:
        if may_overwrite(x):
            return aten.silu_(x.mul_(1.702)).div_(1.702)
        return _QuickGELU.apply(x) if is_plain(x) else F.silu(1.702 * x) / 1.702


class _QuickGELU(torch.autograd.Function):
    """Keeps its input alone, and takes one tensor of memory each way."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return aten.silu_(1.702 * x).div_(1.702)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        scaled = 1.702 * x
        if torch.is_grad_enabled():  # a gradient of the gradient is asked for
            sigmoid = scaled.sigmoid()
            return grad * sigmoid * (1 + scaled * (1 - sigmoid))
        return aten.silu_backward.grad_input(grad, scaled, grad_input=scaled)


class GELU(nn.GELU):
    """Overwrites its input where it may. Shape: any -> same."""

    def forward(self, x: Tensor) -> Tensor:
        return aten.gelu_(x, approximate=self.approximate) if may_overwrite(x) else super().forward(x)


class BatchNorm2d(nn.BatchNorm2d):
    """Overwrites its input in evaluation, where it may. Shape: (B, C, H, W) -> same."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training or not may_overwrite(x, self.weight, self.bias):
            return super().forward(x)
        statistics = (self.weight, self.bias, self.running_mean, self.running_var)
        unused = x.new_empty(0)
        aten.native_batch_norm.out(
            x, *statistics, False, 0.0, self.eps, out=x, save_mean=unused, save_invstd=unused.clone()
        )
        return x


def prepend(token_B1C: Tensor, x_BNC: Tensor) -> Tensor:
    """A token, then the others. Shape: (B, 1, C), (B, N, C) -> (B, 1 + N, C)."""
    if x_BNC.requires_grad and is_plain(x_BNC):  # of a slice, BatchNorm computes the gradient ten times slower
        x_BNC.register_hook(Tensor.contiguous)
    return torch.cat((token_B1C, x_BNC), dim=1)


class ResidualDepthwise(nn.Conv2d):
    """x plus its depthwise 3x3 convolution, as one convolution: 1 is added to the kernel's centre.

    Shape: (B, C, H, W) -> same.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        device = x.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            # The sum may be of a higher precision than the convolution.
            return x + super().forward(x)
        with kept_again(x):
            return self._conv_forward(x, plus_identity(self.weight), self.bias)


def plus_identity(weight_C133: Tensor) -> Tensor:
    """The kernel of x + depthwise(x): one added at its centre."""
    return weight_C133 + F.pad(weight_C133.new_ones(1, 1, 1, 1), (1, 1, 1, 1))
