"""From a recipe and a data set to everything the loop needs, freshly begun or exactly resumed."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hybridvit.config import Recipe
from hybridvit.data.loader import train_loader
from hybridvit.data.sampler import TrainSampler
from hybridvit.data.source import Splits
from hybridvit.errors import ConfigError, TrainingError
from hybridvit.runtime import ALONE, Ranks, seed_for, weights_dtype
from hybridvit.tasks import find_task
from hybridvit.train.ema import Ema
from hybridvit.train.initial import start_from
from hybridvit.train.modes import Modes, freeze
from hybridvit.train.optim import Schedule, create_optimizer
from hybridvit.train.progress import Reporter
from hybridvit.train.resume import check_room, check_same_run, claim, restore
from hybridvit.train.run import Run
from hybridvit.train.shard import is_sharded, shard
from hybridvit.train.sinks import open_sinks
from hybridvit.train.state import Counters, list_states, load_newest_state, sweep

INITIALISATION = -1  # stands for the epoch in seed_for


def prepare(
    recipe: Recipe,
    splits: Splits,
    *,
    out: Path,
    device: torch.device,
    ranks: Ranks = ALONE,
    init: str | Path | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> Run:
    """Build the run that writes to `out`. Every rank calls this; only the first touches the folder.

    Raises:
        ConfigError: the recipe does not fit the model, the devices, or the run to be resumed.
        DataError: the data set does not fill a batch.
        CheckpointError: `init` or every saved state cannot be used.
        TrainingError: `out` cannot be written, is in use or too small, or holds a run that was not to be resumed.
    """
    task, num_classes = find_task(recipe.task), len(splits.train.class_names)
    device_batch = _device_batch(recipe, ranks)
    reporter = Reporter(out if ranks.is_first else None, console if ranks.is_first else None)
    with ExitStack() as on_error:
        lock = on_error.enter_context(claim(out)) if ranks.is_first else None
        if ranks.is_first:
            sweep(out)
        ranks.wait()  # until the folder is there
        if not resume and (list_states(out) or (out / "metrics.jsonl").exists()):
            raise TrainingError(
                f"{out} already holds a run. Continue it with --resume, or choose another folder (--out)."
            )
        saved = load_newest_state(out, reporter.say, ranks) if resume else None

        model = build_model(recipe, num_classes=num_classes).to(device)
        if device.type == "cuda":
            model = model.to(memory_format=torch.channels_last)
        if recipe.batchnorm.sync and ranks.world > 1:
            model = with_synchronised_batchnorm(model, device)
        if init and not saved:
            start_from(model, init, say=reporter.say)
        freeze(model, recipe.model.freeze)
        sharded = recipe.run.fsdp and ranks.world > 1
        ema = Ema(model, recipe.ema, foreach=not sharded) if recipe.ema.decay else None
        if sharded:
            for each in (model, ema.model) if ema else (model,):
                shard(each, device=device, ranks=ranks)
        optimizer = create_optimizer(model, recipe.optimizer)
        sampler_options: dict[str, Any] = {
            "global_batch": recipe.global_batch,
            "device_batch": device_batch,
            "seed": recipe.seed,
            "repeats": recipe.data.repeats,
            "rank": ranks.rank,
            "world": ranks.world,
        }
        steps_per_epoch = TrainSampler(len(splits.train), epochs=1, **sampler_options).steps_per_epoch
        schedule = Schedule(optimizer, recipe.schedule, steps_per_epoch=steps_per_epoch)
        scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "float16")
        check_room(out, model, has_ema=ema is not None)
        counters = Counters()
        if saved:
            check_same_run(saved, recipe, splits, device_batch=device_batch, out=out)
            restore(saved, model=model, optimizer=optimizer, ema=ema, scaler=scaler)
            counters = Counters.from_dict(saved["counters"])
        if ranks.is_first:
            (out / "recipe.yaml").write_text(recipe.to_yaml())
            reporter.sinks = open_sinks(recipe.run.track, out, recipe.to_dict(), step=counters.step)
        net = _net(model, device, ranks)
        run = Run(
            recipe=recipe,
            task=task,
            splits=splits,
            out=out,
            device=device,
            ranks=ranks,
            model=model,
            net=net,
            modes=Modes(
                model,
                drop_path_warmup_steps=recipe.model.drop_path_warmup_epochs * steps_per_epoch,
                to_compile=net if recipe.run.compile else None,
            ),
            criterion=task.criterion(
                recipe,
                num_classes=num_classes,
                device=device,
                device_batch=device_batch,
                steps=schedule.epochs * steps_per_epoch,
            ),
            optimizer=optimizer,
            schedule=schedule,
            scaler=scaler,
            ema=ema,
            loader=train_loader(
                splits.train,
                TrainSampler(len(splits.train), epochs=schedule.epochs, first_step=counters.step, **sampler_options),
                transform=task.train_transform(recipe),
                collate=task.collate,
                channels=recipe.preprocess.in_chans,
                max_pixels=recipe.data.max_pixels,
                workers=recipe.run.workers,
                pin_memory=device.type == "cuda",
            ),
            counters=counters,
            reporter=reporter,
            lock=lock,
            device_batch=device_batch,
            steps_per_epoch=steps_per_epoch,
        )
        ranks.wait()
        on_error.pop_all()
        return run


def build_model(recipe: Recipe, *, num_classes: int) -> nn.Module:
    """The recipe's model with weights drawn from the recipe's seed.

    Raises:
        ConfigError: no such model, or it does not take one of model.args.
    """
    torch.manual_seed(seed_for(recipe.seed, INITIALISATION))
    model: Any = find_task(recipe.task).create_model(recipe, num_classes=num_classes)
    model.set_grad_checkpointing(recipe.model.grad_checkpointing)
    return model.to(dtype=weights_dtype(recipe.precision))


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


def _device_batch(recipe: Recipe, ranks: Ranks) -> int:
    device_batch = recipe.device_batch or max(recipe.global_batch // ranks.world, 1)
    if recipe.global_batch % (device_batch * ranks.world):
        raise ConfigError(
            f"global_batch ({recipe.global_batch}) must be a multiple of device_batch ({device_batch}) times the "
            f"{ranks.world} processes: each step deals whole chunks of device_batch to every process."
        )
    return device_batch


def with_synchronised_batchnorm(model: nn.Module, device: torch.device) -> nn.Module:
    if device.type != "cuda":
        raise ConfigError("batchnorm.sync works between CUDA devices only. Leave it off here.")
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


def _net(model: nn.Module, device: torch.device, ranks: Ranks) -> nn.Module:
    if ranks.world == 1 or is_sharded(model):
        return model
    _name_strides_alike(model)
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def _name_strides_alike(model: nn.Module) -> None:
    """Give gradients the numbers of their weights' strides, not only the same places in memory.

    Where an axis has length 1, as in a depthwise weight, its stride means nothing and may be any number. Autograd's is not
    the weight's there; DistributedDataParallel compares numbers, and warns.
    """
    for weight in model.parameters():
        if weight.requires_grad and 1 in weight.shape:
            weight.register_hook(partial(_with_strides, strides=weight.stride()))


def _with_strides(grad: Tensor, *, strides: tuple[int, ...]) -> Tensor:
    same = all(a == b for a, b, size in zip(grad.stride(), strides, grad.shape, strict=True) if size > 1)
    return grad.as_strided(grad.shape, strides) if same else grad
