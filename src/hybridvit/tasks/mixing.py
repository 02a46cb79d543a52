"""What happens to a batch on the device: erasing, mixing, and the loss that goes with the labels."""

import torch
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from torch.nn import functional as F

from hybridvit.config import AugmentSection, MixSection
from hybridvit.errors import ConfigError

# B batch, C channels, H rows, W columns, K classes


class Mixer:
    """Erase, then mix a normalised batch. Draws from the global generators, which the loop seeds for every chunk.

    Raises:
        ConfigError: mixing pairs the pictures of a chunk, and their number is odd.
    """

    def __init__(
        self, mix: MixSection, augment: AugmentSection, *, num_classes: int, device_batch: int, device: torch.device
    ) -> None:
        self.erase = None
        if augment.erasing:
            self.erase = RandomErasing(
                augment.erasing, mode=augment.erasing_mode, max_count=augment.erasing_count, device=device
            )
        self.mix = None
        if mix.mixup or mix.cutmix:
            if device_batch % 2:
                raise ConfigError(f"mixup and cutmix pair pictures: device_batch must be even, found {device_batch}.")
            self.mix = Mixup(
                mixup_alpha=mix.mixup,
                cutmix_alpha=mix.cutmix,
                prob=mix.prob,
                switch_prob=mix.switch_prob,
                mode=mix.mode,
                label_smoothing=mix.smoothing,
                num_classes=num_classes,
            )

    def __call__(self, x_BCHW: torch.Tensor, labels_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns pictures and labels; labels are (B, K) shares when mixing is on, (B,) numbers otherwise."""
        if self.erase:
            x_BCHW = self.erase(x_BCHW)
        if self.mix:
            x_BCHW, labels_B = self.mix(x_BCHW, labels_B)
        return x_BCHW, labels_B


def loss_of(logits_BK: torch.Tensor, labels: torch.Tensor, *, smoothing: float) -> torch.Tensor:
    """Mean cross-entropy, at least in float32. Mixed labels, (B, K), carry their smoothing already."""
    logits_BK = logits_BK.to(torch.promote_types(logits_BK.dtype, torch.float32))
    if labels.ndim == 2:
        return F.cross_entropy(logits_BK, labels.to(logits_BK.dtype))
    return F.cross_entropy(logits_BK, labels, label_smoothing=smoothing)
