"""A convolution for inference, with its activation and its sum.

On a CPU in float32 it is one oneDNN call on weights packed once, with the activation and the addition to the residual done
while the result is still in registers. PyTorch's own calls need a pass over memory for each. Elsewhere (other types and
devices, tracing, gradients), and within `portable_kernels()`, the same arithmetic is written in plain PyTorch.

Tensors: B batch, C channels, H rows, W columns, N tokens.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridvit.kernels.kept import Kept
from hybridvit.kernels.state import is_plain, may_overwrite

Activation = Literal["none", "gelu", "gelu_tanh", "silu"]

PACKED_SHAPES = 2
"""How many layouts of its weights a convolution keeps: a full batch and the last, shorter one."""

# name -> (oneDNN's name, its variant)
_ONEDNN: dict[Activation, tuple[str, str]] = {
    "none": ("none", ""),
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
    "silu": ("swish", ""),
}
IN_PLACE: dict[Activation, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "gelu": torch.ops.aten.gelu_,
    "gelu_tanh": lambda x: torch.ops.aten.gelu_(x, approximate="tanh"),
    "silu": lambda x: F.silu(x, inplace=True),
}


def is_fast(x: Tensor) -> bool:
    """Whether oneDNN may compute on `x`: it knows neither float64 nor gradients, and no exporter knows its calls."""
    return (
        is_plain(x)
        and x.dtype == torch.float32
        and not (torch.is_grad_enabled() and x.requires_grad)
        and bool(torch.backends.mkldnn.enabled)
        and torch.backends.mkldnn.is_available()
    )


class Conv(nn.Module):
    """A convolution with folded weights, then its activation; in one kernel.

    Shape: (B, C, H, W), channels-last -> (B, C', H', W'). With `add_to`, the result is added to that, in place where it may.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        activation: Activation = "none",
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight.contiguous())
        self.register_buffer("bias", bias)
        self.stride, self.padding, self.groups, self.activation = stride, padding, groups, activation
        self._packed = Kept(PACKED_SHAPES)

    def forward(self, x_BCHW: Tensor, add_to: Tensor | None = None) -> Tensor:
        if add_to is not None and not may_overwrite(add_to):
            return add_to + self.forward(x_BCHW)
        if is_fast(x_BCHW):
            return self._in_one_kernel(x_BCHW, add_to)
        y_BCHW = F.conv2d(x_BCHW, self.weight, self.bias, self.stride, self.padding, groups=self.groups)
        y_BCHW = IN_PLACE[self.activation](y_BCHW)
        return y_BCHW if add_to is None else add_to.add_(y_BCHW)

    def _in_one_kernel(self, x_BCHW: Tensor, add_to: Tensor | None) -> Tensor:
        geometry = ([self.padding] * 2, [self.stride] * 2, [1, 1])
        arguments = (self._weight_for(x_BCHW.shape), self.bias, *geometry, self.groups)
        if add_to is None:
            name, variant = _ONEDNN[self.activation]
            return torch.ops.mkldnn._convolution_pointwise(x_BCHW, *arguments, name, [], variant)
        assert self.activation == "none"
        return torch.ops.mkldnn._convolution_pointwise_(add_to, x_BCHW, *arguments, "add", 1.0, None, [], None)

    def _weight_for(self, shape: torch.Size) -> Tensor:
        """The weight in the layout that oneDNN wants for this shape; in another one's it can be thirty times slower."""
        geometry = ([self.padding] * 2, [self.stride] * 2, [1, 1], self.groups, shape)
        return self._packed.get(
            shape, self.weight, lambda: torch.ops.mkldnn._reorder_convolution_weight(self.weight, *geometry)
        )


def linear(weight: Tensor, bias: Tensor | None, activation: Activation = "none") -> Conv:
    """A linear layer as a 1x1 convolution: oneDNN's are faster than the BLAS behind nn.Linear, on AMD twice as fast."""
    return Conv(weight[:, :, None, None], bias, activation=activation)


def as_map(x_BNC: Tensor) -> Tensor:
    """Tokens as a map of one row, for `Conv`. Shape: (B, N, C) -> (B, C, 1, N), a view, channels-last."""
    return x_BNC.unsqueeze(1).permute(0, 3, 1, 2)


def as_tokens(x_BCHW: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, N, C): a view of a channels-last map."""
    return x_BCHW.permute(0, 2, 3, 1).flatten(1, 2)
