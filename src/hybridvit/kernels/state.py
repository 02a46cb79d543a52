"""What a layer must know before it leaves the textbook: who else is looking at these numbers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as torch_modules

_overwriting: ContextVar[bool] = ContextVar("overwriting", default=False)
_portable: ContextVar[bool] = ContextVar("portable", default=False)


def is_eager(x: Tensor) -> bool:
    """Whether `x` is computed call by call: not compiled, traced, counted, transformed, nor differentiated forwards."""
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._are_functorch_transforms_active()
        and not is_differentiated_forwards()
    )


def in_channels_last(x_BCHW: Tensor) -> Tensor:
    """In the order of memory in which convolutions are fastest; as it is under torch.func's transforms, whose vmap lacks it."""
    if not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active():
        return x_BCHW
    return x_BCHW.contiguous(memory_format=torch.channels_last)


def is_differentiated_forwards() -> bool:
    """Whether directional derivatives are computed beside the values: few kernels can."""
    return forward_ad._current_level >= 0


def is_plain(x: Tensor) -> bool:
    """Whether `x` is computed eagerly on a CPU, in its own type, and by whatever is fastest."""
    return is_eager(x) and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu") and not _portable.get()


@contextmanager
def portable_kernels() -> Iterator[None]:
    """Within this block, in this thread, every kernel is written in plain PyTorch: the oracle of the fast ones."""
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


def overwrites(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a model's method overwrite what its layers have computed, where no gradient needs it and no hook of the model sees it.

    Where maps are large, a pass that writes fresh memory costs several times one that overwrites.
    """

    @wraps(method)
    def inner(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or _overwriting.get() or has_hooks(self):
            return method(self, *args, **kwargs)
        token = _overwriting.set(True)
        try:
            return method(self, *args, **kwargs)
        finally:
            _overwriting.reset(token)

    return inner


def has_hooks(model: nn.Module) -> bool:
    """Whether anybody is shown what the modules of a model take and give."""
    if torch_modules._global_forward_hooks or torch_modules._global_forward_pre_hooks:
        return True
    return any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def may_overwrite(x: Tensor, *parameters: Tensor) -> bool:
    """Whether a layer with these parameters may overwrite `x`, the result of the layer before it."""
    if torch.compiler.is_compiling() or not _overwriting.get() or not is_plain(x):
        return False
    return not (x.requires_grad or (torch.is_grad_enabled() and any(p.requires_grad for p in parameters)))
