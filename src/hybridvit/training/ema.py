"""Moving average of the weights."""

from timm.utils import ModelEmaV3
from torch import nn

from hybridvit.config import EmaSection


class Ema:
    """The averaged copy of a model, BatchNorm's statistics included."""

    def __init__(self, model: nn.Module, section: EmaSection, *, foreach: bool = True) -> None:
        """foreach: update all tensors at once, which pieces of tensors beside whole ones (a sharded model) do not allow."""
        self.average = ModelEmaV3(model, decay=section.decay, use_warmup=section.warmup, foreach=foreach)

    @property
    def model(self) -> nn.Module:
        return self.average.module

    def update(self, model: nn.Module, step: int) -> None:
        """step: optimizer steps taken so far, from 1. The first ones copy the weights."""
        self.average.update(model, step=step)
