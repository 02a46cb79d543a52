"""What speaks for a class: Grad-CAM, integrated gradients and occlusion. Positive is for it, negative against it.

Written out because each is a dozen lines, and because Grad-CAM must know where a class token takes over.

B batch (always 1), C channels, H rows, W columns, h, w rows and columns of a stage.
"""

import threading
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridvit.models.position import Grid


def gradcam(model: nn.Module, x_1CHW: Tensor, *, label: int, stage: int, grid: Grid) -> Tensor:
    """Features of a stage, weighted by how the class's logit rises with each channel. Negative sums are cut off.

    Where a class token decides, no gradient reaches the last stage's places: those that enter its last attention are taken.

    `grid`: rows and columns of the stage's tokens. Shape: (1, C, H, W) -> grid. Source: Selvaraju et al., arXiv 1610.02391.
    """
    chosen: Any = model.stages[stage]  # type: ignore[index]
    num_cls = int(getattr(chosen, "cls_token", None) is not None)
    layer: nn.Module = chosen.blocks[-1].norm1 if num_cls else chosen.blocks[-1]
    kept: list[Tensor] = []
    own_thread = threading.get_ident()

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        if threading.get_ident() == own_thread:  # others may ask the same model meanwhile
            kept.append(output.requires_grad_())

    hook = layer.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            logit = model(x_1CHW)[0, label]
            (gradient,) = torch.autograd.grad(logit, kept[0])
    finally:
        hook.remove()
    features = kept[0].detach()
    if features.ndim == 3:  # tokens (B, N, C) of CvT
        features, gradient = (each[:, num_cls:].transpose(1, 2).unflatten(2, grid) for each in (features, gradient))
    weight_1C11 = gradient.mean(dim=(2, 3), keepdim=True)
    return F.relu((weight_1C11 * features).sum(dim=1))[0]


def integrated_gradients(
    model: nn.Module, x_1CHW: Tensor, *, label: int, steps: int = 32, batch_size: int = 16
) -> Tensor:
    """The gradient of the class's logit, integrated on the way from the mean colour to the picture, times the way.

    The sum over the map is the logit's rise on that way. A trained model decides within a small part of it, which even steps
    miss: so the logit is first read at `steps` even points, and half of the steps are put where it changes. On the models of
    the tests the sum is then right within about a tenth with 32 steps, within a hundredth with 64.

    Shape: (1, C, H, W) -> (H, W). Source: Sundararajan et al., arXiv 1703.01365.
    """
    even = torch.linspace(0, 1, steps + 1)
    with torch.no_grad():
        logits = [model(part.view(-1, 1, 1, 1).to(x_1CHW) * x_1CHW)[:, label] for part in even.split(batch_size)]
    change = torch.cat(logits).diff().abs().double().cpu().numpy()
    density = np.concatenate(([0.0], np.cumsum(change + change.mean() + 1e-12)))
    bounds = torch.from_numpy(np.interp(np.linspace(0, density[-1], steps + 1), density, even.double().numpy()))

    mean_CHW = torch.zeros_like(x_1CHW[0])
    middles, widths = (bounds[1:] + bounds[:-1]) / 2, bounds.diff()
    for part, width in zip(middles.split(batch_size), widths.split(batch_size), strict=True):
        points_BCHW = (part.view(-1, 1, 1, 1).to(x_1CHW) * x_1CHW).requires_grad_()
        with torch.enable_grad():
            (gradient_BCHW,) = torch.autograd.grad(model(points_BCHW)[:, label].sum(), points_BCHW)
        mean_CHW += (gradient_BCHW * width.view(-1, 1, 1, 1).to(x_1CHW)).sum(dim=0)
    return (mean_CHW * x_1CHW[0]).sum(dim=0)


@torch.no_grad()
def occlusion(
    model: nn.Module, x_1CHW: Tensor, *, label: int, patch: int | None = None, batch_size: int = 32
) -> Tensor:
    """How far the class's logit falls when a square is painted over, in the mean colour.

    A pixel has the mean over the squares that cover it. `patch`: side of the square in pixels of the input; None: a quarter of
    the shorter side. Squares step by half of it.

    Shape: (1, C, H, W) -> (H, W). Source: Zeiler and Fergus, arXiv 1311.2901.
    """
    height, width = x_1CHW.shape[2:]
    patch = max(1, min(height, width) // 4) if patch is None else patch
    step = max(1, patch // 2)
    corners = [(top, left) for top in range(-patch + step, height, step) for left in range(-patch + step, width, step)]
    fall_HW, count_HW = x_1CHW.new_zeros(height, width), x_1CHW.new_zeros(height, width)
    whole = model(x_1CHW)[0, label]
    for begin in range(0, len(corners), batch_size):
        windows = [
            (slice(max(0, top), top + patch), slice(max(0, left), left + patch))
            for top, left in corners[begin : begin + batch_size]
        ]
        painted_BCHW = x_1CHW.repeat(len(windows), 1, 1, 1)
        for picture_CHW, window in zip(painted_BCHW, windows, strict=True):
            picture_CHW[:, *window] = 0  # the mean colour that pictures are normalised with
        for window, fall in zip(windows, whole - model(painted_BCHW)[:, label], strict=True):
            fall_HW[window] += fall
            count_HW[window] += 1
    return fall_HW / count_HW
