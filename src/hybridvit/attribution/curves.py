"""How much a map is worth: the class's probability while pixels are taken away or given back in the map's order.

Source: Petsiuk et al., arXiv 1806.07421. A good map lets the probability fall early in deletion and rise early in insertion; the
mean over the curve is its score.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn


@torch.no_grad()
def curve(
    model: nn.Module,
    x_1CHW: Tensor,
    heat_HW: np.ndarray,
    *,
    label: int,
    kind: Literal["deletion", "insertion"],
    steps: int = 16,
) -> np.ndarray:
    """Probabilities of `label` with 0, 1, ... `steps` equal parts of the pixels deleted (or inserted), the hottest first.

    Deleted pixels have the mean colour. Shape: (1, C, H, W), (H, W) -> (steps + 1).
    """
    rank = np.empty(heat_HW.size)
    rank[np.argsort(-heat_HW, axis=None, kind="stable")] = np.arange(heat_HW.size)
    rank_HW = torch.from_numpy(rank.reshape(heat_HW.shape)).to(x_1CHW.device)
    bounds_S = torch.linspace(0, heat_HW.size, steps + 1, dtype=rank_HW.dtype, device=x_1CHW.device)
    touched_S1HW = rank_HW < bounds_S.view(-1, 1, 1, 1)
    kept_S1HW = touched_S1HW if kind == "insertion" else ~touched_S1HW
    return model(x_1CHW * kept_S1HW).softmax(dim=1)[:, label].double().cpu().numpy()
