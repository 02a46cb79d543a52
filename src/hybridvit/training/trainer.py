"""A model and all that moves it, from a recipe and a data set."""

from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from hybridvit.config import Recipe
from hybridvit.data.loader import TrainBatch, train_loader
from hybridvit.data.sampler import TrainSampler
from hybridvit.data.source import Splits
from hybridvit.errors import CheckpointError, ConfigError
from hybridvit.evaluation.metric import Result
from hybridvit.runtime import Ranks
from hybridvit.tasks import find_task
from hybridvit.training.building import build_model, shared, with_synchronised_batchnorm
from hybridvit.training.checkpointer import Checkpointer
from hybridvit.training.ema import Ema
from hybridvit.training.initial import start_from
from hybridvit.training.modes import Modes, freeze
from hybridvit.training.optim import Schedule, create_optimizer
from hybridvit.training.progress import Reporter
from hybridvit.training.same import check_same_run, data_digest
from hybridvit.training.shard import fill, is_sharded, shard
from hybridvit.training.state import Counters


class Trainer:
    """Freshly begun, or exactly resumed by `load_state_dict`. Every rank has one.

    Raises:
        ConfigError: the recipe does not fit the model or the devices.
        DataError: the data set does not fill a batch.
        CheckpointError: `init` cannot be used.
    """

    def __init__(
        self,
        recipe: Recipe,
        splits: Splits,
        *,
        checkpoints: Checkpointer,
        reporter: Reporter,
        device: torch.device,
        init: str | Path | None = None,
        began_with: int | None = None,
    ) -> None:
        """began_with: the device_batch of the state to be loaded, which holds unless the recipe says another."""
        self.recipe, self.splits, self.device = recipe, splits, device
        self.checkpoints, self.reporter = checkpoints, reporter
        self.task, self.ranks, self.counters = find_task(recipe.task), checkpoints.ranks, Counters()
        self.result: Result | None = None
        """Of the last evaluation, where it was in this process."""
        self.device_batch = device_batch_of(recipe, self.ranks, began_with=began_with)
        num_classes = len(splits.train.class_names)
        model = build_model(recipe, num_classes=num_classes).to(device)
        if device.type == "cuda":
            model = model.to(memory_format=torch.channels_last)
        if recipe.batchnorm.sync and self.ranks.world > 1:
            model = with_synchronised_batchnorm(model, device)
        if init:
            start_from(model, init, say=reporter.say)
        freeze(model, recipe.model.freeze)
        sharded = recipe.run.fsdp and self.ranks.world > 1
        self.model, self.ema = model, Ema(model, recipe.ema, foreach=not sharded) if recipe.ema.decay else None
        if sharded:
            for each in (model, self.ema.model) if self.ema else (model,):
                shard(each, device=device, ranks=self.ranks)
        self.net = shared(model, device, self.ranks)
        """The model as it is called: compiled, or wrapped to share gradients."""
        self.optimizer = create_optimizer(model, recipe.optimizer)
        self.steps_per_epoch = self.sampler(epochs=1).steps_per_epoch
        self.schedule = Schedule(self.optimizer, recipe.schedule, steps_per_epoch=self.steps_per_epoch)
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "float16")
        self.modes = Modes(
            model,
            drop_path_warmup_steps=recipe.model.drop_path_warmup_epochs * self.steps_per_epoch,
            to_compile=self.net if recipe.run.compile else None,
        )
        self.criterion = self.task.criterion(
            recipe, num_classes=num_classes, device=device, device_batch=self.device_batch, steps=self.total_steps
        )

    @property
    def out(self) -> Path:
        return self.checkpoints.out

    @property
    def chunks(self) -> range:
        """Numbers of this rank's chunks in a global batch: as many forward passes per step."""
        return range(self.ranks.rank, self.recipe.global_batch // self.device_batch, self.ranks.world)

    @property
    def total_steps(self) -> int:
        return self.schedule.epochs * self.steps_per_epoch

    @property
    def finished(self) -> bool:
        return self.counters.step == self.total_steps

    @property
    def evaluation_due(self) -> bool:
        """Whether the weights of this step are to be evaluated, and were not yet."""
        step = self.counters.step
        on_time = step > 0 and step % (self.steps_per_epoch * self.recipe.run.eval_epochs) == 0
        return (on_time or self.finished) and self.counters.evaluated != step

    @property
    def evaluated(self) -> nn.Module:
        """The model that is evaluated and exported: the average where there is one."""
        return self.ema.model if self.ema else self.model

    @cached_property
    def loader(self) -> DataLoader[TrainBatch]:
        """This rank's chunks of all steps that are left."""
        sampler = self.sampler(epochs=self.schedule.epochs, first_step=self.counters.step)
        return self.load(sampler, pin_memory=self.device.type == "cuda")

    def load(self, sampler: TrainSampler, *, pin_memory: bool = False) -> DataLoader[TrainBatch]:
        """Training pictures as the task transforms them, in any order."""
        recipe = self.recipe
        return train_loader(
            self.splits.train,
            sampler,
            transform=self.task.train_transform(recipe),
            collate=self.task.collate,
            channels=recipe.preprocess.in_chans,
            max_pixels=recipe.data.max_pixels,
            workers=recipe.run.workers,
            pin_memory=pin_memory,
        )

    def sampler(self, *, epochs: int, first_step: int = 0) -> TrainSampler:
        return TrainSampler(
            len(self.splits.train),
            global_batch=self.recipe.global_batch,
            device_batch=self.device_batch,
            epochs=epochs,
            seed=self.recipe.seed,
            repeats=self.recipe.data.repeats,
            first_step=first_step,
            rank=self.ranks.rank,
            world=self.ranks.world,
        )

    def shares_gradients(self, chunk: int) -> AbstractContextManager[None]:
        """Ranks exchange gradients in the backward pass of a step's last chunk only."""
        is_last = chunk == self.chunks[-1]
        if isinstance(self.net, DistributedDataParallel) and not is_last:
            return self.net.no_sync()
        if isinstance(self.net, FSDPModule):
            self.net.set_requires_gradient_sync(is_last)
        return nullcontext()

    def update(self) -> None:
        """Take the step that the gradients ask for."""
        self.scaler.step(self.optimizer)
        if self.ema:
            self.ema.update(self.model, self.counters.step + 1)

    def log(self, *, lr: float, grad_norm: Tensor) -> None:
        """Write the mean losses since the last call, every run.log_steps."""
        counters = self.counters
        if counters.step % self.recipe.run.log_steps == 0:
            line = {"step": counters.step, **counters.mean_losses(), "lr": lr, "grad_norm": grad_norm.item()}
            counters.metrics_bytes = self.reporter.record(line)

    def state_dict(self) -> dict[str, Any]:
        """All that a later process needs to go on as if nothing had happened."""
        train = self.splits.train
        return {
            "recipe": self.recipe.to_dict(),
            "class_names": list(train.class_names),
            "num_images": len(train),
            "data": self.data_digest,
            "device_batch": self.device_batch,
            "model": self.model.state_dict(),
            "ema": self.ema.model.state_dict() if self.ema else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "counters": self.counters.to_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            ConfigError: it was another recipe, or other pictures.
            CheckpointError: another version's model wrote it.
        """
        options: dict[str, Any] = {"device_batch": self.device_batch, "digest": self.data_digest, "out": self.out}
        check_same_run(saved, self.recipe, self.splits.train, **options)
        try:
            if "pieces" in saved or is_sharded(self.model):
                fill(saved, model=self.model, optimizer=self.optimizer, ema=self.ema.model if self.ema else None)
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.scaler.load_state_dict(saved["scaler"])
            if self.ema:
                self.ema.model.load_state_dict(saved["ema"])
        except (RuntimeError, ValueError, KeyError, CheckpointException) as error:
            raise CheckpointError(f"The saved state does not fit this version's model: {error}") from error
        self.counters = Counters.from_dict(saved["counters"])

    @cached_property
    def data_digest(self) -> str:
        return data_digest(self.splits.train)

    def save(self) -> None:
        """Write the state. A full disk is reported, not fatal: the older states are intact, and the next try may fit."""
        self.counters.broken = set().union(*self.ranks.gather(self.counters.broken))
        try:
            self.checkpoints.save(self.counters.step, self.state_dict(), in_pieces=is_sharded(self.model))
        except OSError as error:
            self.reporter.say(f"Warning: step {self.counters.step} is not saved ({error}). Make room in {self.out}.")

    def close(self) -> None:
        """Let another process train in this folder."""
        try:
            self.reporter.close()
        finally:
            self.checkpoints.close()


def device_batch_of(recipe: Recipe, ranks: Ranks, *, began_with: int | None = None) -> int:
    """Pictures per forward pass of a rank: as the recipe says, else as the run began, else a rank's share of a step.

    Raises: ConfigError when a step cannot be dealt out.
    """
    device_batch = recipe.device_batch or began_with or max(recipe.global_batch // ranks.world, 1)
    if recipe.global_batch % (device_batch * ranks.world):
        began = ", with which the run began" if device_batch == began_with else ""
        raise ConfigError(
            f"global_batch ({recipe.global_batch}) must be a multiple of device_batch ({device_batch}{began}) times the "
            f"{ranks.world} processes: each step deals whole chunks of device_batch to every process."
        )
    return device_batch
