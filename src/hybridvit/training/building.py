"""The recipe's model, as a task makes it, as it starts, and as several processes share it."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hybridvit.config import Recipe
from hybridvit.errors import ConfigError
from hybridvit.runtime import Ranks, seed_for, weights_dtype
from hybridvit.tasks import find_task
from hybridvit.training.shard import is_sharded

INITIALISATION = -1  # stands for the epoch in seed_for


def build_model(recipe: Recipe, *, num_classes: int) -> nn.Module:
    """The recipe's model with weights drawn from the recipe's seed.

    Raises:
        ConfigError: no such model, or it does not take one of model.args.
    """
    torch.manual_seed(seed_for(recipe.seed, INITIALISATION))
    model: Any = find_task(recipe.task).create_model(recipe, num_classes=num_classes)
    model.set_grad_checkpointing(recipe.model.grad_checkpointing)
    return model.to(dtype=weights_dtype(recipe.precision))


def with_synchronised_batchnorm(model: nn.Module, device: torch.device) -> nn.Module:
    if device.type != "cuda":
        raise ConfigError("batchnorm.sync works between CUDA devices only. Leave it off here.")
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


def shared(model: nn.Module, device: torch.device, ranks: Ranks) -> nn.Module:
    """The model as it is called: where there are several ranks, each with all weights, wrapped to share gradients."""
    if ranks.world == 1 or is_sharded(model):
        return model
    _name_strides_alike(model)
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def _name_strides_alike(model: nn.Module) -> None:
    """Give gradients the numbers of their weights' strides, not only the same places in memory.

    Where an axis has length 1, as in a depthwise weight, its stride means nothing and may be any number. Autograd's is not
    the weight's there; DistributedDataParallel compares numbers, and warns.
    """
    for weight in model.parameters():
        if weight.requires_grad and 1 in weight.shape:
            weight.register_hook(partial(_with_strides, strides=weight.stride()))


def _with_strides(grad: Tensor, *, strides: tuple[int, ...]) -> Tensor:
    same = all(a == b for a, b, size in zip(grad.stride(), strides, grad.shape, strict=True) if size > 1)
    return grad.as_strided(grad.shape, strides) if same else grad
