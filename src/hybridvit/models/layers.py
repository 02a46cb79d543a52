"""torch's own layers, computed with fewer passes over memory and by the faster library.

Parameters, state dicts and formulas are those of the classes they come from. Where maps are large, a pass that writes fresh
memory costs several times one that overwrites: what no gradient needs is overwritten. As with nn.ReLU(inplace=True), what a
hook has kept of the layer before changes with it.

Tensors: B batch, C channels, D channels out, H rows, W columns, N tokens.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridvit.models import onednn
from hybridvit.models.onednn import is_plain

aten = torch.ops.aten


class Linear(nn.Linear):
    """A linear layer, computed by oneDNN where that is the faster library. Shape: (..., C) -> (..., D)."""

    def forward(self, x: Tensor) -> Tensor:
        if not onednn.linear_is_faster(x, self.out_features):
            return super().forward(x)
        return onednn.linear(x, self.weight, self.bias)


class Pointwise(nn.Conv2d):
    """A 1x1 convolution, computed as a linear layer is. Shape: (B, C, H, W) -> (B, D, H, W)."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__(dim_in, dim_out, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if not onednn.linear_is_faster(x_BCHW, self.out_channels):
            return super().forward(x_BCHW)
        return onednn.linear(x_BCHW.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


def _is_free(x: Tensor, *parameters: Tensor) -> bool:
    """Whether a layer with these parameters may overwrite `x`, the result of the layer before it."""
    needs_gradient = x.requires_grad or (torch.is_grad_enabled() and any(p.requires_grad for p in parameters))
    return is_plain(x) and not needs_gradient


def add_to(residual: Tensor, branch: Tensor) -> Tensor:
    """residual + branch; overwrites the branch's result where no gradient is needed. Shape: two alike -> same."""
    return branch.add_(residual) if _is_free(branch, residual) else residual + branch


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), which is silu(1.702 x) / 1.702. Overwrites its input where no gradient is needed.

    Shape: any -> same. Source: microsoft/CvT, lib/models/cls_cvt.py, QuickGELU.
    """

    def forward(self, x: Tensor) -> Tensor:
        if _is_free(x):
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
    """Overwrites its input where no gradient is needed. Shape: any -> same."""

    def forward(self, x: Tensor) -> Tensor:
        return aten.gelu_(x, approximate=self.approximate) if _is_free(x) else super().forward(x)


class BatchNorm2d(nn.BatchNorm2d):
    """Overwrites its input in evaluation, where no gradient is needed. Shape: (B, C, H, W) -> same.

    A forward pass that gradient checkpointing repeats does not count for the running statistics: it has counted before.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
            running = (self.running_mean, self.running_var)
            return F.batch_norm(x, *running, self.weight, self.bias, training=True, momentum=0.0, eps=self.eps)
        if self.training or not _is_free(x, self.weight, self.bias):
            return super().forward(x)
        statistics = (self.weight, self.bias, self.running_mean, self.running_var)
        unused = x.new_empty(0)
        aten.native_batch_norm.out(
            x, *statistics, False, 0.0, self.eps, out=x, save_mean=unused, save_invstd=unused.clone()
        )
        return x


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
        return self._conv_forward(x, plus_identity(self.weight), self.bias)


def plus_identity(weight_C133: Tensor) -> Tensor:
    """The kernel of x + depthwise(x): one added at its centre."""
    return weight_C133 + F.pad(weight_C133.new_ones(1, 1, 1, 1), (1, 1, 1, 1))
