"""The fused model in the words that other runtimes compute fastest.

What is one kernel in kernels.convolution is several nodes of a graph, and a runtime joins them again only where it knows the
pattern. Measured on OpenVINO, which keeps maps channels-last and tokens as they are:

- a LayerNorm stays one node if it sees tokens (B, N, C), and a view of a map as tokens costs nothing if it is a permutation of
  (B, C, H, W) to (B, H, W, C) and then a reshape. In the other order, every view is a copy;
- BatchNorm behind GELU is best left there: the runtime computes both in registers, behind the convolution. The map of borders
  that folding it into the next convolution needs would be a pass over memory;
- a product without an activation goes to MLAS, one with any goes to oneDNN, which takes a tenth less time here: so those without
  are clamped to what float32 can hold;
- linear layers are faster as matrix products in float, and as 1x1 convolutions in int8, where GELU and the next layer's
  quantisation join the convolution;
- a residual added on tokens leaves the next LayerNorm nothing to copy; added on a map, it is copied into tokens.

Tensors: B batch, C channels, D channels out, H rows, W columns, N tokens.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Node

from hybridvit.deploy.folding import ShiftedConv
from hybridvit.deploy.fused import Fused
from hybridvit.kernels.convolution import IN_PLACE, Conv, as_tokens

NEARLY_INFINITE = 3e38
PERMUTE = torch.ops.aten.permute.default


def rewrite(fused: Fused, *, matrix_products: bool) -> Fused:
    """Change `fused` in place: the same arithmetic, other nodes. Returns it.

    Args:
        matrix_products: linear layers as products on tokens, instead of 1x1 convolutions on maps.
    """
    for parent in list(fused.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ShiftedConv):
                setattr(parent, name, NormedConv(child))
            elif isinstance(child, LayerNorm2d):
                setattr(parent, name, TokenNorm(child))
            elif isinstance(child, Conv) and child.weight.shape[2:] == (1, 1):
                setattr(parent, name, MatrixProduct(child) if matrix_products else Pointwise(child))
    return fused


def cancel_permutations(program: ExportedProgram) -> None:
    """Where a permutation undoes the one before it, take what went into both; runtimes do so only where nobody else reads it."""
    for node in program.graph.nodes:
        before = node.args[0] if node.target is PERMUTE else None
        if isinstance(before, Node) and before.target is PERMUTE:
            inner, outer = (cast(list[int], each.args[1]) for each in (before, node))
            if [inner[axis] for axis in outer] == sorted(outer):
                node.replace_all_uses_with(before.args[0])
    program.graph.eliminate_dead_code()


class MatrixProduct(nn.Module):
    """A 1x1 `Conv` on tokens. Shape: (B, C, H, W) -> (B, D, H, W)."""

    weight_CD: Tensor
    bias: Tensor | None

    def __init__(self, conv: Conv) -> None:
        super().__init__()
        self.register_buffer("weight_CD", conv.weight.flatten(1).T.contiguous())
        self.register_buffer("bias", conv.bias)
        self.activate = _clamp if conv.activation == "none" else IN_PLACE[conv.activation]

    def forward(self, x_BCHW: Tensor, add_to: Tensor | None = None) -> Tensor:
        y_BND = as_tokens(x_BCHW) @ self.weight_CD
        if self.bias is not None:
            y_BND = y_BND + self.bias
        y_BND = self.activate(y_BND)
        if add_to is not None:
            y_BND = as_tokens(add_to) + y_BND
        return _as_map(y_BND, x_BCHW.shape[2:])


def _clamp(x: Tensor) -> Tensor:
    return x.clamp(-NEARLY_INFINITE, NEARLY_INFINITE)


class Pointwise(nn.Module):
    """A 1x1 `Conv` whose result is added to the residual on tokens. Shape: (B, C, H, W) -> (B, D, H, W)."""

    def __init__(self, conv: Conv) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x_BCHW: Tensor, add_to: Tensor | None = None) -> Tensor:
        y_BDHW = self.conv(x_BCHW)
        return y_BDHW if add_to is None else _as_map(as_tokens(add_to) + as_tokens(y_BDHW), x_BCHW.shape[2:])


def _as_map(x_BNC: Tensor, grid: Sequence[int]) -> Tensor:
    """Shape: (B, N, C), rows and columns -> (B, C, H, W)."""
    return x_BNC.unflatten(1, grid).permute(0, 3, 1, 2)


class TokenNorm(nn.Module):
    """LayerNorm2d on tokens. Shape: (B, C, H, W) -> same."""

    def __init__(self, norm: LayerNorm2d) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x_BCHW: Tensor) -> Tensor:
        norm = self.norm
        y_BNC = F.layer_norm(as_tokens(x_BCHW), norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        return _as_map(y_BNC, x_BCHW.shape[2:])


class NormedConv(nn.Module):
    """A `ShiftedConv` with its scale and shift ahead of it. Shape: (B, C, H, W) -> (B, D, H, W)."""

    scale: Tensor
    shift: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, shifted: ShiftedConv) -> None:
        super().__init__()
        dtype = shifted.conv.weight.dtype
        for name, value in (
            ("scale", shifted.scale[:, None, None]),
            ("shift", shifted.shift[:, None, None]),
            ("weight", shifted.weight),
            ("bias", shifted.bias),
        ):
            self.register_buffer(name, value.to(dtype))
        self.groups, self.activate = shifted.conv.groups, shifted.activate

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = x_BCHW * self.scale + self.shift
        return self.activate(F.conv2d(x_BCHW, self.weight, self.bias, padding=1, groups=self.groups))
