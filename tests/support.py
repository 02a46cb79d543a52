"""What tests of several rooms share: models that are nowhere at rest, and one way to compare numbers."""

import zlib

import torch
from torch import Tensor, nn


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter and BatchNorm statistic a value of its own, in float64: nothing stays at 0 or 1 to hide behind.

    The values follow from the names, so two models with the same names get the same values.
    """
    model.double()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not tensor.is_floating_point():
            continue
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}".encode()))
        value = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        if name.endswith("running_var"):
            value = 0.5 + value.abs()
        elif tensor.ndim > 1 and "position" not in name:
            value = value / tensor[0].numel() ** 0.5
        else:
            value = 0.3 * value + (1.0 if name.endswith("weight") else 0.0)
        tensor.data.copy_(value)
    return model


def pictures(batch: int, height: int, width: int, channels: int = 3) -> Tensor:
    """Shape: (batch, channels, height, width), float64, standard normal."""
    generator = torch.Generator().manual_seed(height * 10_000 + width)
    return torch.randn(batch, channels, height, width, generator=generator, dtype=torch.float64)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The norm of the difference over the norm of what is expected."""
    return float((found.detach() - expected.detach()).norm() / expected.detach().norm())
