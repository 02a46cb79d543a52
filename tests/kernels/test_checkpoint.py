"""Gradient checkpointing repeats the forward pass and counts it once."""

import pytest
import torch
from torch import nn

from hybridvit.models import catalog
from support import pictures, randomise

KINDS = {
    "ours": lambda model: model,
    "synchronised": nn.SyncBatchNorm.convert_sync_batchnorm,
}


@pytest.mark.parametrize("name", ["cvt_nano", "cmt_nano"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("momentum", [0.1, None])
def test_every_batchnorm_counts_a_picture_once(name: str, kind: str, momentum: float | None) -> None:
    models = [randomise(catalog.create(name, num_classes=5, drop_rate=0.0)).train() for _ in range(2)]
    models = [KINDS[kind](model) for model in models]
    models[1].set_grad_checkpointing()
    for model in models:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = momentum
        for size in (32, 40):
            model(pictures(2, size, 48)).square().sum().backward()
    plain, saving = (dict(model.named_buffers()) for model in models)
    counted = [key for key in plain if key.endswith("num_batches_tracked")]
    assert {int(plain[key]) for key in counted} == {2}
    assert plain.keys() == saving.keys()
    for key, buffer in plain.items():
        assert torch.allclose(saving[key], buffer, rtol=1e-12), key
    assert {m.momentum for m in models[1].modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)} == {momentum}
