"""torch's own layers, computed with fewer passes over memory and by the faster library.

Parameters, state dicts and formulas are those of the classes they come from. Where maps are large, a pass that writes fresh memory
costs several times one that overwrites: what no gradient needs is overwritten. As with nn.ReLU(inplace=True), what a hook has
kept of the layer before changes with it.

Tensors: B batch, C channels, D channels out, H rows, W columns, N tokens.
"""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

aten = torch.ops.aten


class Linear(nn.Linear):
    """A linear layer on tokens: where oneDNN is the faster library, its 1x1 convolution, which computes the same.

    Shape: (B, N, C) -> (B, N, D), or any other (..., C) -> (..., D).
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 3 or not (is_plain(x) and x.dtype == torch.float32 and _onednn_is_faster()):
            return super().forward(x)
        x_BC1N = x.transpose(1, 2).unsqueeze(2)
        return F.conv2d(x_BC1N, self.weight[:, :, None, None], self.bias).squeeze(2).transpose(1, 2)


@cache
def _onednn_is_faster() -> bool:
    """Whether linear layers run on MKL, on a processor that MKL has no best code for: any but Intel's."""
    name = str(torch.cpu.get_capabilities().get("cpu_name", ""))
    return torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available() and "Intel" not in name


def is_plain(x: Tensor) -> bool:
    """Whether `x` is computed on a CPU, call by call, in its own type: not traced, compiled, exported or cast."""
    return (
        x.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch.is_autocast_enabled("cpu")
    )


def add_to(residual: Tensor, branch: Tensor) -> Tensor:
    """residual + branch; overwrites the branch's result where no gradient is needed. Shape: two alike -> same."""
    return branch.add_(residual) if _is_free(branch, residual) else residual + branch


def _is_free(x: Tensor, *parameters: Tensor) -> bool:
    """Whether a layer with these parameters may overwrite `x`, the result of the layer before it."""
    needs_gradient = x.requires_grad or (torch.is_grad_enabled() and any(p.requires_grad for p in parameters))
    return is_plain(x) and not needs_gradient


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
    """Overwrites its input in evaluation, where no gradient is needed. Shape: (B, C, H, W) -> same."""

    def forward(self, x: Tensor) -> Tensor:
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
