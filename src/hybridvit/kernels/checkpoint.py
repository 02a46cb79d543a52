"""Gradient checkpointing: compute again in the backward pass what the forward pass did not keep."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from hybridvit.kernels.private import BatchNorm


def checkpointed(block: nn.Module, *inputs: Any) -> Any:
    """block(*inputs), of which only the inputs are kept. Every kind of BatchNorm counts each picture once."""
    if torch.compiler.is_compiling():  # there the second pass is the compiler's, and changes nothing
        return checkpoint(block, *inputs, use_reentrant=False)
    return checkpoint(block, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _without_counting(block)))


@contextmanager
def _without_counting(block: nn.Module) -> Iterator[None]:
    """Within this context the running statistics of a block's BatchNorms stay as they are."""
    norms = [module for module in block.modules() if isinstance(module, BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, (_, batches) in zip(norms, before, strict=True):
        norm.momentum, norm.num_batches_tracked = 0.0, None if batches is None else batches.clone()
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
