"""What torch and Python can do and do not promise: each name's test is in tests/kernels/test_room.py."""

import pickle
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

BatchNorm = _BatchNorm
"""What all kinds of BatchNorm are, the synchronised one too."""

PythonUnpickler: Any = pickle._Unpickler
"""The pickle machine written in Python, whose every instruction can be replaced."""


def copy_all(targets: list[Tensor], sources: list[Tensor]) -> None:
    """Every source into its target, in few kernels."""
    torch._foreach_copy_(targets, sources)


def norms(tensors: list[Tensor]) -> Tensor:
    """Every tensor's norm, in few kernels. Shape: (tensors,)."""
    return torch.stack(torch._foreach_norm(tensors))


def shared_storage(num_bytes: int) -> Any:
    """Memory that the process which started this one sees, too."""
    return torch.UntypedStorage._new_shared(num_bytes)
