"""One training run: what setup.py builds and loop.py moves."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from hybridvit.config import Recipe
from hybridvit.data.source import Splits
from hybridvit.runtime import Ranks
from hybridvit.tasks.task import Criterion, Task
from hybridvit.train.ema import Ema
from hybridvit.train.modes import Modes
from hybridvit.train.optim import Schedule
from hybridvit.train.progress import Reporter
from hybridvit.train.shard import is_sharded, save_shards
from hybridvit.train.state import Counters, save_state


@dataclass
class Run:
    recipe: Recipe
    task: Task
    splits: Splits
    out: Path
    device: torch.device
    ranks: Ranks
    model: nn.Module
    net: nn.Module
    """The model as it is called: compiled, or wrapped to share gradients."""
    modes: Modes
    criterion: Criterion
    optimizer: Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    ema: Ema | None
    loader: DataLoader[Any]
    counters: Counters
    reporter: Reporter
    lock: IO[str] | None
    device_batch: int
    steps_per_epoch: int

    @property
    def chunks(self) -> range:
        """Numbers of this rank's chunks in a global batch: as many forward passes per step."""
        return range(self.ranks.rank, self.recipe.global_batch // self.device_batch, self.ranks.world)

    @property
    def total_steps(self) -> int:
        return self.schedule.epochs * self.steps_per_epoch

    @property
    def evaluated(self) -> nn.Module:
        """The model that is evaluated and exported: the average where there is one."""
        return self.ema.model if self.ema else self.model

    def shares_gradients(self, chunk: int) -> AbstractContextManager[None]:
        """Ranks exchange gradients in the backward pass of a step's last chunk only."""
        is_last = chunk == self.chunks[-1]
        if isinstance(self.net, DistributedDataParallel) and not is_last:
            return self.net.no_sync()
        if isinstance(self.net, FSDPModule):
            self.net.set_requires_gradient_sync(is_last)
        return nullcontext()

    def log(self, *, lr: float, grad_norm: float) -> None:
        """Write the mean loss since the last call."""
        counters = self.counters
        mean = counters.loss_sum / counters.loss_count if counters.loss_count else None
        parts = {name: total / counters.loss_count for name, total in counters.loss_parts.items()}
        line = {"step": counters.step, "loss": mean, **parts, "lr": lr, "grad_norm": grad_norm}
        counters.loss_sum, counters.loss_parts, counters.loss_count = 0.0, {}, 0
        counters.metrics_bytes = self.reporter.record(line)

    def state(self) -> dict[str, Any]:
        """All that a later process needs to go on as if nothing had happened."""
        return {
            "recipe": self.recipe.to_dict(),
            "class_names": list(self.splits.train.class_names),
            "num_images": len(self.splits.train),
            "device_batch": self.device_batch,
            "model": self.model.state_dict(),
            "ema": self.ema.model.state_dict() if self.ema else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "counters": self.counters.to_dict(),
        }

    def save(self) -> None:
        """Write the state. A full disk is reported, not fatal: the older states are intact, and the next try may fit."""
        self.counters.broken = set().union(*self.ranks.gather(self.counters.broken))
        try:
            if is_sharded(self.model):
                save_shards(self.out, self.counters.step, self.state(), self.ranks)
            elif self.ranks.is_first:
                save_state(self.out, self.counters.step, self.state())
        except OSError as error:
            self.reporter.say(f"Warning: step {self.counters.step} is not saved ({error}). Make room in {self.out}.")

    def close(self) -> None:
        """Let another process train in this folder."""
        self.reporter.close()
        if self.lock:
            self.lock.close()
