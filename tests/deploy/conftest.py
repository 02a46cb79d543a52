"""Models whose every parameter matters: fresh ones have zero biases and BatchNorms that do nothing."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from hybridvit.models import catalog
from hybridvit.models.backbone import Backbone

MakeModel = Callable[..., Backbone]


@pytest.fixture
def make_model() -> MakeModel:
    """make_model(name, **arguments): in eval mode, float32, with random statistics, norms, biases and position tables."""

    def make(name: str, *, num_classes: int = 5, img_size: int = 32, **kwargs: Any) -> Backbone:
        model = catalog.create(name, num_classes=num_classes, img_size=img_size, **kwargs)
        rng = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.running_mean.normal_(0, 0.5, generator=rng)
                    module.running_var.uniform_(0.3, 2, generator=rng)
                if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
                    module.weight.uniform_(-1.5, 1.5, generator=rng)
            for name, parameter in model.named_parameters():
                if name.endswith(("bias", "table", "position", "cls_token")):
                    parameter.normal_(0, 0.5, generator=rng)
        return model.eval()

    return make
