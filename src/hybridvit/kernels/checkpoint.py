"""Gradient checkpointing: compute again in the backward pass what the forward pass did not keep."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from hybridvit.kernels.private import BatchNorm

_checkpointed: ContextVar[bool] = ContextVar("checkpointed", default=False)


def is_checkpointed() -> bool:
    """Whether this forward pass is one that will be repeated: its layers need not save memory themselves."""
    return _checkpointed.get()


def checkpointed(block: nn.Module, *inputs: Any) -> Any:
    """block(*inputs), of which only the inputs are kept. Every kind of BatchNorm counts each picture once."""
    if torch.compiler.is_compiling():  # there the second pass is the compiler's, and changes nothing
        return checkpoint(block, *inputs, use_reentrant=False)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return _marked(), _without_counting(block)

    return checkpoint(block, *inputs, use_reentrant=False, context_fn=contexts)


@contextmanager
def _marked() -> Iterator[None]:
    token = _checkpointed.set(True)
    try:
        yield
    finally:
        _checkpointed.reset(token)


@contextmanager
def _without_counting(block: nn.Module) -> Iterator[None]:
    """Within this context the running statistics of a block's BatchNorms stay as they are."""
    norms = [module for module in block.modules() if isinstance(module, BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, (_, batches) in zip(norms, before, strict=True):
        norm.momentum, norm.num_batches_tracked = 0.0, None if batches is None else batches.clone()
    try:
        with _marked():
            yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
