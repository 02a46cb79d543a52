"""Optimizer and learning-rate schedule, both timm's, from a recipe."""

from typing import Any

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import nn
from torch.optim import Optimizer

from hybridvit.config import OptimizerSection, Recipe, ScheduleSection
from hybridvit.errors import ConfigError

FUSED = ("adam", "adamw", "sgd", "nesterov", "momentum")
"""timm's names of torch's optimizers that can update all parameters in one kernel, on CPUs, too."""


def create_optimizer(model: nn.Module, section: OptimizerSection) -> Optimizer:
    """Group the parameters (no decay on biases, norms and model.no_weight_decay(); layer decay) and optimize them.

    Raises:
        ConfigError: timm knows no such optimizer, or it refuses an argument.
    """
    options: dict[str, Any] = {"betas": section.betas, "eps": section.eps, "fused": section.name in FUSED or None}
    try:
        return create_optimizer_v2(
            model,
            opt=section.name,
            lr=section.lr,
            weight_decay=section.weight_decay,
            momentum=section.momentum,
            filter_bias_and_bn=not section.decay_all,
            layer_decay=section.layer_decay,
            **{name: value for name, value in options.items() if value is not None},
        )
    except (ValueError, TypeError) as error:
        raise ConfigError(f"optimizer {section.name}: {error}. `timm.optim.list_optimizers()` lists names.") from error


class Schedule:
    """The learning rate as a pure function of the step, so that resuming needs no state."""

    def __init__(self, optimizer: Optimizer, section: ScheduleSection, *, steps_per_epoch: int) -> None:
        self.steps_per_epoch = steps_per_epoch
        self.per_step = section.per_step
        self.warmup_steps, self.warmup_from = (
            section.warmup_steps,
            section.warmup_lr / max(group["lr"] for group in optimizer.param_groups),
        )
        self.optimizer = optimizer
        self.scheduler, self.epochs = create_scheduler_v2(
            optimizer,
            sched=section.name,
            num_epochs=section.epochs,
            warmup_epochs=section.warmup_epochs,
            warmup_lr=section.warmup_lr,
            min_lr=section.min_lr,
            cooldown_epochs=section.cooldown_epochs,
            decay_epochs=section.decay_epochs,
            decay_milestones=list(section.milestones),
            decay_rate=section.decay_rate,
            step_on_epochs=not section.per_step,
            updates_per_epoch=steps_per_epoch,
        )

    def set(self, step: int) -> float:
        """Give every parameter group the learning rate of this step (counted from 0); returns the highest."""
        if self.per_step:
            self.scheduler.step_update(step)
        else:
            self.scheduler.step(step // self.steps_per_epoch)
        if step < self.warmup_steps:
            factor = self.warmup_from + (1 - self.warmup_from) * step / self.warmup_steps
            for group in self.optimizer.param_groups:
                group["lr"] *= factor
        return max(group["lr"] for group in self.optimizer.param_groups)


def describe(recipe: Recipe, *, num_images: int | None = None) -> str:
    """The resolved recipe and, with the number of training pictures, its schedule."""
    lines = [recipe.to_yaml().rstrip()]
    if num_images is not None:
        steps_per_epoch = num_images // recipe.global_batch
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.optimizer.lr)
        schedule = Schedule(optimizer, recipe.schedule, steps_per_epoch=max(steps_per_epoch, 1))
        lines.append(
            f"\n# {num_images} pictures, {steps_per_epoch} steps of {recipe.global_batch} per epoch, "
            f"{schedule.epochs} epochs: {steps_per_epoch * schedule.epochs} steps"
        )
        marks = sorted({0, 1, recipe.schedule.warmup_epochs, schedule.epochs // 2, schedule.epochs - 1})
        lines += [
            f"# epoch {epoch + 1:4d} begins with learning rate {schedule.set(epoch * steps_per_epoch):.3g}"
            for epoch in marks
            if epoch < schedule.epochs
        ]
    return "\n".join(lines)
