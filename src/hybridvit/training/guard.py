"""Keep values that are not finite out of the weights, the averages and every saved file."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from hybridvit.kernels.private import copy_all, norms


class Guard:
    """Watches loss, gradient and BatchNorm's statistics, which a single bad forward pass would spoil for good."""

    def __init__(self, model: nn.Module) -> None:
        self.statistics = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self.before = [buffer.clone() for buffer in self.statistics]

    def remember(self) -> None:
        """Call before a step's first forward pass."""
        if self.statistics:
            copy_all(self.before, self.statistics)

    def restore(self) -> None:
        """Undo the step's forward passes."""
        if self.statistics:
            copy_all(self.statistics, self.before)

    def non_finite(self, values: Sequence[torch.Tensor]) -> torch.Tensor:
        """Whether the step must not be taken. Shape: scalars -> bool scalar, on their device."""
        finite = torch.stack([torch.isfinite(value) for value in values]).all()
        if self.statistics:
            finite &= torch.isfinite(norms(self.statistics)).all()
        return ~finite


def first_nonfinite_module(model: nn.Module, forward: Callable[[], object]) -> str:
    """Name the first layer whose output or statistics are not finite, by calling `forward`, which runs the model once more.

    The model's statistics are as before afterwards.
    """
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            return f"the weight {name}"
    guard, found = Guard(model), list[str]()

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def hook(_: nn.Module, inputs: object, output: object) -> None:
            if not found and isinstance(output, torch.Tensor) and not torch.isfinite(output).all():
                found.append(f"the output of {name}")
            for buffer_name, buffer in module.named_buffers():
                if not found and not torch.isfinite(buffer).all():
                    found.append(f"the statistics {name}.{buffer_name}")

        return module.register_forward_hook(hook)

    handles = [watch(name, module) for name, module in model.named_modules() if not list(module.children())]
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):  # a compiled model does not call new hooks
        forward()
    for handle in handles:
        handle.remove()
    guard.restore()
    return found[0] if found else "the loss or a gradient, not a layer's output"
