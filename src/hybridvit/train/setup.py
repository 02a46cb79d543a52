"""From a recipe and a data set to everything the loop needs, freshly begun or exactly resumed."""

import fcntl
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from rich.console import Console
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from hybridvit.config import Recipe
from hybridvit.data.loader import train_loader
from hybridvit.data.sampler import TrainSampler
from hybridvit.data.source import Splits
from hybridvit.errors import CheckpointError, ConfigError, TrainingError
from hybridvit.models import catalog
from hybridvit.runtime import DTYPES, seed_for
from hybridvit.train.ema import Ema
from hybridvit.train.initial import start_from
from hybridvit.train.mix import Mixer
from hybridvit.train.optim import Schedule, create_optimizer
from hybridvit.train.progress import Reporter
from hybridvit.train.state import Counters, list_states, load_newest_state, save_state, sweep


@dataclass
class Run:
    """One training run. The loop reads it top to bottom."""

    recipe: Recipe
    splits: Splits
    out: Path
    device: torch.device
    model: nn.Module
    optimizer: Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    ema: Ema | None
    mixer: Mixer
    loader: DataLoader[Any]
    counters: Counters
    reporter: Reporter
    lock: IO[str]
    device_batch: int
    accumulation: int
    steps_per_epoch: int

    @property
    def total_steps(self) -> int:
        return self.schedule.epochs * self.steps_per_epoch

    @property
    def dtype(self) -> torch.dtype:
        """Of the pictures: float64 where the weights are, else float32 (autocast lowers it where that is safe)."""
        return torch.float64 if self.recipe.precision == "float64" else torch.float32

    @property
    def judged(self) -> nn.Module:
        """The model that is evaluated and exported: the average where there is one."""
        return self.ema.model if self.ema else self.model

    def close(self) -> None:
        """Let another process train in this folder."""
        self.reporter.close()
        self.lock.close()

    def log(self, *, lr: float, grad_norm: float) -> None:
        """Write the mean loss since the last call."""
        counters = self.counters
        mean = counters.loss_sum / counters.loss_count if counters.loss_count else None
        line = {"step": counters.step, "loss": mean, "lr": lr, "grad_norm": grad_norm}
        counters.loss_sum, counters.loss_count = 0.0, 0
        counters.metrics_bytes = self.reporter.record(line)

    def save(self) -> None:
        """Write the whole state. Raises OSError; the older states are intact then."""
        save_state(
            self.out,
            self.counters.step,
            {
                "recipe": self.recipe.to_dict(),
                "class_names": list(self.splits.train.class_names),
                "num_images": len(self.splits.train),
                "model": self.model.state_dict(),
                "ema": self.ema.model.state_dict() if self.ema else None,
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "counters": self.counters.to_dict(),
            },
        )


def prepare(
    recipe: Recipe,
    splits: Splits,
    *,
    out: Path,
    device: torch.device,
    init: Path | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> Run:
    """Build the run that writes to `out`.

    Raises:
        ConfigError: the recipe does not fit the model, or not the run to be resumed.
        DataError: the data set does not fill a batch.
        CheckpointError: `init` or every saved state cannot be used.
        TrainingError: `out` cannot be written, is in use, or holds a run that was not to be resumed.
    """
    reporter = Reporter(out, console)
    with ExitStack() as on_error:
        lock = on_error.enter_context(_claim(out))
        sweep(out)
        if not resume and (list_states(out) or (out / "metrics.jsonl").exists()):
            raise TrainingError(
                f"{out} already holds a run. Continue it with --resume, or choose another folder (--out)."
            )
        saved = load_newest_state(out, reporter.say) if resume else None

        device_batch = recipe.device_batch or recipe.global_batch
        model = build_model(recipe, num_classes=len(splits.train.class_names)).to(device=device)
        if init and not saved:
            start_from(model, init, say=reporter.say)
        optimizer = create_optimizer(model, recipe.optimizer)
        steps_per_epoch = max(len(splits.train) // recipe.global_batch, 1)
        schedule = Schedule(optimizer, recipe.schedule, steps_per_epoch=steps_per_epoch)
        ema = Ema(model, recipe.ema) if recipe.ema.decay else None
        scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "float16")
        counters = Counters()
        if saved:
            _check_same_run(saved, recipe, splits, out)
            _restore(saved, model=model, optimizer=optimizer, ema=ema, scaler=scaler)
            counters = Counters.from_dict(saved["counters"])
        sampler = TrainSampler(
            len(splits.train),
            global_batch=recipe.global_batch,
            device_batch=device_batch,
            epochs=schedule.epochs,
            seed=recipe.seed,
            repeats=recipe.data.repeats,
            first_step=counters.step,
        )
        loader = train_loader(
            splits.train,
            sampler,
            preprocess=recipe.preprocess,
            augment=recipe.augment,
            max_pixels=recipe.data.max_pixels,
            workers=recipe.run.workers,
            pin_memory=device.type == "cuda",
        )
        mixer = Mixer(
            recipe.mix,
            recipe.augment,
            num_classes=len(splits.train.class_names),
            device_batch=device_batch,
            device=device,
        )
        (out / "recipe.yaml").write_text(recipe.to_yaml())
        run = Run(
            recipe=recipe,
            splits=splits,
            out=out,
            device=device,
            model=model,
            optimizer=optimizer,
            schedule=schedule,
            scaler=scaler,
            ema=ema,
            mixer=mixer,
            loader=loader,
            counters=counters,
            reporter=reporter,
            lock=lock,
            device_batch=device_batch,
            accumulation=recipe.global_batch // device_batch,
            steps_per_epoch=sampler.steps_per_epoch,
        )
        on_error.pop_all()
        return run


def build_model(recipe: Recipe, *, num_classes: int) -> nn.Module:
    """The recipe's model with weights drawn from the recipe's seed.

    Raises:
        ConfigError: no such model, or it does not take one of model.args.
    """
    section = recipe.model
    options: dict[str, Any] = {} if section.drop_rate is None else {"drop_rate": section.drop_rate}
    torch.manual_seed(seed_for(recipe.seed, -1))
    model = catalog.create(
        section.name,
        num_classes=num_classes,
        in_chans=recipe.preprocess.in_chans,
        img_size=recipe.preprocess.image_size,
        drop_path_rate=section.drop_path_rate,
        **options,
        **section.args,
    )
    return model.to(dtype=DTYPES["float64" if recipe.precision == "float64" else "float32"])


def _claim(out: Path) -> IO[str]:
    """Make the folder, prove that it can be written, and keep other processes out until the file is closed."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".lock").open("w")
    except OSError as error:
        raise TrainingError(f"{out} cannot be written: {error.strerror}. Choose another folder with --out.") from error
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock, not inherited by workers that outlive a kill
    except OSError:
        lock.close()
        raise TrainingError(f"Another process is training in {out}. Wait for it, or choose another --out.") from None
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _check_same_run(saved: dict[str, Any], recipe: Recipe, splits: Splits, out: Path) -> None:
    """Refuse to go on with another recipe or other pictures; how the run is carried out may differ."""
    old, new = _flat(saved["recipe"]), _flat(recipe.to_dict())
    changed = [
        f"  {key}: {old.get(key)!r} when it began, now {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not key.startswith(("run.", "about."))
    ]
    if changed:
        raise ConfigError(
            f"{out} cannot be resumed with another recipe:\n"
            + "\n".join(changed)
            + "\nGive the values it began with, or start anew in another folder (--out)."
        )
    if saved["class_names"] != list(splits.train.class_names) or saved["num_images"] != len(splits.train):
        raise ConfigError(
            f"{out} began with {saved['num_images']} training pictures in {len(saved['class_names'])} classes; the "
            f"data set now has {len(splits.train)} in {len(splits.train.class_names)}. Restore it, or start anew."
        )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in values.items():
        result |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return result


def _restore(
    saved: dict[str, Any], *, model: nn.Module, optimizer: Optimizer, ema: Ema | None, scaler: torch.amp.GradScaler
) -> None:
    try:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        scaler.load_state_dict(saved["scaler"])
        if ema:
            ema.model.load_state_dict(saved["ema"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"The saved state does not fit this version's model: {error}") from error


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
