"""The arithmetic of folding: BatchNorm in inference is scale * x + shift, and convolutions are linear.

Tensors: O output channels, C input channels, H rows, W columns.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridvit.kernels.convolution import IN_PLACE, Activation, Conv
from hybridvit.kernels.kept import Kept
from hybridvit.kernels.state import is_eager, may_overwrite
from hybridvit.models.position import Grid


def scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """BatchNorm's two vectors in inference."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.detach() * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias.detach() - norm.running_mean * scale


def weight_and_bias(layer: nn.Conv2d | nn.Linear) -> tuple[Tensor, Tensor]:
    """A layer's tensors; zeros where it has no bias."""
    weight = layer.weight.detach()
    return weight, weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach()


def fold_behind(weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """BatchNorm(conv(x)) as one convolution. Shape: weight (O, ...), bias (O,) -> same."""
    scale, shift = scale_and_shift(norm)
    return weight * scale.view(-1, *[1] * (weight.ndim - 1)), bias * scale + shift


def fold_ahead(weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """conv(scale * x + shift) as one convolution, if it pads nothing. Shape: weight (O, C, ...), bias (O,) -> same."""
    trailing = [1] * (weight.ndim - 2)
    return (
        weight * scale.view(1, -1, *trailing),
        bias + (weight * shift.view(1, -1, *trailing)).flatten(1).sum(dim=1),
    )


class ShiftedConv(nn.Module):
    """A zero-padded 3x3 convolution of scale * x + shift, then its activation.

    A tap that lies outside meets zero and not the shift, so what the shift adds depends on the position: its sum over all taps
    goes into the bias, and a map takes back what the edges and corners must not get.

    Shape: (B, C, H, W) -> (B, O, H, W).
    """

    taps_O133: Tensor

    def __init__(
        self, weight: Tensor, bias: Tensor, *, scale: Tensor, shift: Tensor, groups: int = 1, activation: Activation
    ) -> None:
        super().__init__()
        self.weight, self.bias, self.scale, self.shift = weight, bias, scale, shift
        """As given, in the type of the folding: a graph for another runtime folds differently."""
        per_channel = (-1, 1, 1, 1) if groups > 1 else (1, -1, 1, 1)
        taps_O133 = (weight * shift.view(per_channel)).sum(dim=1, keepdim=True)
        all_taps_O = taps_O133.sum(dim=(1, 2, 3))
        self.conv = Conv(weight * scale.view(per_channel), bias + all_taps_O, padding=1, groups=groups)
        self.activate = IN_PLACE[activation]
        self.register_buffer("taps_O133", taps_O133)
        self._borders = Kept(2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BOHW = self.conv(x_BCHW)
        border_1OHW = self._border_map((y_BOHW.shape[2], y_BOHW.shape[3]))
        return self.activate(y_BOHW.add_(border_1OHW) if may_overwrite(y_BOHW) else y_BOHW + border_1OHW)

    def _border_map(self, grid: Grid) -> Tensor:
        """What the padding takes from the shift's sum: zero inside. Shape: -> (1, O, H, W). The last ones are kept."""
        if not is_eager(self.taps_O133):
            return self._compute_border_map(grid)
        return self._borders.get(grid, self.taps_O133, lambda: self._compute_border_map(grid))

    def _compute_border_map(self, grid: Grid) -> Tensor:
        inside_1OHW = F.conv2d(self.taps_O133.new_ones(1, 1, *grid), self.taps_O133, padding=1)
        lack_1OHW = inside_1OHW - self.taps_O133.sum(dim=(1, 2, 3)).view(1, -1, 1, 1)
        return lack_1OHW.contiguous(memory_format=torch.channels_last)
