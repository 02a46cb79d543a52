"""What of a model is in training at a step: frozen parts, and drop path rates that grow."""

from fnmatch import fnmatch

from timm.layers import DropPath
from torch import nn

from hybridvit.errors import ConfigError
from hybridvit.kernels.private import BatchNorm


def freeze(model: nn.Module, patterns: tuple[str, ...]) -> None:
    """Exclude the parameters whose names match from training.

    Raises:
        ConfigError: a pattern matches nothing, or nothing is left to train.
    """
    for pattern in patterns:
        matching = [parameter for name, parameter in model.named_parameters() if fnmatch(name, pattern)]
        if not matching:
            names = ", ".join(sorted({name.split(".")[0] for name, _ in model.named_parameters()}))
            raise ConfigError(f"model.freeze: {pattern} matches no parameter; their names begin with {names}.")
        for parameter in matching:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError("model.freeze leaves nothing to train.")


class Modes:
    """Puts a model into training mode, leaving frozen BatchNorms alone and scaling drop path while it warms up.

    to_compile: compiled when the rates no longer change; torch.compile would begin anew at each.
    """

    def __init__(
        self, model: nn.Module, *, drop_path_warmup_steps: int = 0, to_compile: nn.Module | None = None
    ) -> None:
        self.model, self.to_compile = model, to_compile
        self.warmup_steps = drop_path_warmup_steps
        self.paths = [(module, module.drop_prob) for module in model.modules() if isinstance(module, DropPath)]
        self.frozen = [
            module
            for module in model.modules()
            if isinstance(module, BatchNorm) and not any(p.requires_grad for p in module.parameters())
        ]

    def train(self, step: int) -> None:
        self.model.train()
        for module in self.frozen:
            module.eval()
        if self.warmup_steps:
            for path, rate in self.paths:
                path.drop_prob = rate * min(1.0, step / self.warmup_steps)
        if self.to_compile is not None and step >= self.warmup_steps:
            self.to_compile.compile()
            self.to_compile = None
