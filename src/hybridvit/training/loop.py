"""The training loop. What it does to the model stands in `fit`; what it needs was built by `prepare`."""

import math
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from rich.console import Console

from hybridvit.config import Recipe
from hybridvit.data.loader import TrainBatch
from hybridvit.data.source import Splits
from hybridvit.errors import DataError, TrainingError
from hybridvit.runtime import ALONE, Ranks, seed_for, weights_dtype
from hybridvit.training.checkpointer import Checkpointer
from hybridvit.training.errors import explained
from hybridvit.training.evaluation import evaluate, export, leave_report
from hybridvit.training.guard import Guard, first_nonfinite_module
from hybridvit.training.progress import Reporter
from hybridvit.training.shard import clip_gradients
from hybridvit.training.sinks import open_sinks
from hybridvit.training.trainer import Trainer

Callback = Callable[[Mapping[str, Any]], bool | None]
"""Hears what metrics.jsonl holds of a step or an evaluation; True asks to stop, after saving. Every rank calls it."""


@dataclass
class Stop:
    """Set by Ctrl-C, SIGTERM or a callback, read after every step."""

    signal: int = 0
    asked: bool = False


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
) -> Trainer:
    """Build the run that writes to `out`, freshly begun or exactly resumed. Every rank calls this.

    Raises:
        ConfigError: the recipe does not fit the model, the devices, or the run to be resumed.
        DataError: the data set does not fill a batch.
        CheckpointError: `init` or every saved state cannot be used.
        TrainingError: `out` cannot be written, is in use or too small, or holds a run that was not to be resumed.
    """
    reporter = Reporter(out if ranks.is_first else None, console if ranks.is_first else None)
    with ExitStack() as on_error:
        checkpoints = on_error.enter_context(closing(Checkpointer(out, ranks=ranks, say=reporter.say)))
        saved = checkpoints.open(resume=resume)
        run = Trainer(
            recipe,
            splits,
            checkpoints=checkpoints,
            reporter=reporter,
            device=device,
            init=None if saved else init,
            began_with=saved["device_batch"] if saved else None,
        )
        checkpoints.check_room(run.model, has_ema=run.ema is not None)
        if saved:
            run.load_state_dict(saved)
        if ranks.is_first:
            (out / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
            reporter.sinks = open_sinks(recipe.run.track, out, recipe.to_dict(), step=run.counters.step)
        ranks.wait()
        on_error.pop_all()
        return run


def fit(run: Trainer, *, on_step: Callback | None = None, on_epoch: Callback | None = None) -> Stop:
    """Train to the end, or until a signal or a callback asks to stop: the state is saved then, and the run can go on later.

    Raises:
        DataError: more broken pictures than data.broken_limit.
        TrainingError: more non-finite steps than optimizer.skip_limit.
    """
    recipe, counters, ranks, guard = run.recipe, run.counters, run.ranks, Guard(run.model)
    zero = torch.zeros((), device=run.device, dtype=weights_dtype(recipe.precision))
    run.reporter.start(step=counters.step, total=run.total_steps, metrics_bytes=counters.metrics_bytes)
    saved_at = time.monotonic()
    with closing(run), explained(run), stop_on_signals() as stop:
        if run.evaluation_due:  # the run was killed while it evaluated
            finish_epoch(run, stop, on_epoch)
        batches = iter(run.loader)
        for step in range(counters.step, run.total_steps):
            if stop.asked:
                break
            lr = run.schedule.set(step)
            run.modes.train(step)
            guard.remember()
            sums: dict[str, torch.Tensor] = {}
            for chunk in run.chunks:
                batch = next(batches)
                count_broken(run, batch)
                seed_all(seed_for(recipe.seed, step, chunk))
                images = batch.images.to(run.device, non_blocking=True)
                with run.shares_gradients(chunk):
                    losses = run.criterion(run.net, images, batch.targets)
                    loss = torch.stack([*losses.values()]).sum()
                    run.scaler.scale(loss / len(run.chunks)).backward()
                for name, value in losses.items():
                    sums[name] = sums.get(name, zero) + value.detach() / (len(run.chunks) * ranks.world)
            run.scaler.unscale_(run.optimizer)
            norm = clip_gradients(run.model, recipe.optimizer.clip_norm or math.inf)
            requests = torch.tensor([bool(stop.signal), time.monotonic() - saved_at > 60 * recipe.run.save_minutes])
            bad = guard.non_finite([*sums.values(), norm])
            non_finite, stop_now, save_now, *means = ranks.sum([bad, *requests.to(run.device), *sums.values()])
            if not non_finite:
                run.update()
                counters.add_losses(dict(zip(sums, means, strict=True)))
            else:
                guard.restore()
                count_skipped(run, batch, lr=lr, loss=sum(means), seed=seed_for(recipe.seed, step, chunk))
            run.scaler.update()
            run.optimizer.zero_grad(set_to_none=True)
            counters.step = step + 1

            run.reporter.stepped(counters.step, recipe.global_batch)
            run.log(lr=lr, grad_norm=norm)
            stop.asked = bool(stop_now) or asks(run, on_step, {"step": counters.step, "loss": sum(means), "lr": lr})
            if run.evaluation_due or save_now or stop.asked:
                run.save()  # before the evaluation, which may fail
                saved_at = time.monotonic()
            if run.evaluation_due:
                finish_epoch(run, stop, on_epoch)
        if run.finished:
            export(run, "last")
            leave_report(run)
    return stop


def finish_epoch(run: Trainer, stop: Stop, on_epoch: Callback | None) -> None:
    """Evaluate, and keep that it was done where the run ends."""
    figures = evaluate(run)
    stop.asked |= asks(run, on_epoch, figures)
    if run.finished or stop.asked:
        run.save()


def asks(run: Trainer, callback: Callback | None, values: Mapping[str, Any]) -> bool:
    """Whether the callback of any rank asks to stop."""
    return callback is not None and any(run.ranks.gather(callback(values) is True))


def seed_all(seed: int) -> None:
    """Seed dropout, drop path, erasing and mixing, on every device."""
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002  timm's Mixup draws from numpy's global generator
    torch.manual_seed(seed)


def count_broken(run: Trainer, batch: TrainBatch) -> None:
    """Note the chunk's broken pictures; raise DataError when they are too many."""
    counters, source = run.counters, run.splits.train
    new = set(batch.broken.tolist()) - counters.broken
    for index in sorted(new):
        run.reporter.say(f"Warning: {source.name(index)} cannot be read; another picture takes its place.")
    counters.broken |= new
    limit = run.recipe.data.broken_limit
    allowed = max(limit * len(source), 1) if limit else 0
    if len(counters.broken) > allowed and new:
        names = "\n".join(f"  {source.name(index)}" for index in sorted(counters.broken)[:10])
        raise DataError(
            f"{len(counters.broken)} of {len(source)} training pictures cannot be read, more than data.broken_limit "
            f"({limit:g}) allows:\n{names}\nRepair or remove them, or raise the limit: --set data.broken_limit=0.1."
        )


def count_skipped(run: Trainer, batch: TrainBatch, *, lr: float, loss: float, seed: int) -> None:
    """Note a step left out; raise TrainingError when they are too many.

    float16's first scale is too large and is halved at every gradient that is not finite; such steps are no fault until the
    scale has come down to 1.
    """
    counters = run.counters
    if run.scaler.is_enabled() and math.isfinite(loss) and run.scaler.get_scale() > 1:
        counters.rescaled += 1
        if counters.rescaled == run.total_steps:
            raise TrainingError(
                "Not one step was taken: in float16 no gradient was finite. Train longer, or use --set precision=bfloat16 or "
                "float32."
            )
        return
    counters.skipped += 1
    run.reporter.say(f"Warning: step {counters.step + 1} is skipped: its loss or gradient is not finite.")
    if counters.skipped > run.recipe.optimizer.skip_limit:
        images = batch.images.to(run.device)
        seed_all(seed)
        where = first_nonfinite_module(run.model, lambda: run.criterion(run.model, images, batch.targets))
        names = "\n".join(f"  {run.splits.train.name(index)}" for index in batch.indices.tolist()[:8])
        raise TrainingError(
            f"{counters.skipped} steps were not finite (optimizer.skip_limit: {run.recipe.optimizer.skip_limit}). "
            f"The last was step {counters.step + 1} at learning rate {lr:.3g}; first not finite is {where}. "
            f"Its pictures begin with\n{names}\nLower optimizer.lr, set optimizer.clip_norm, or lengthen the warm-up. "
            f"The last finite state is kept in {run.out}."
        )


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Turn the first Ctrl-C or SIGTERM into a request; a second Ctrl-C interrupts at once.

    Outside the main thread Python hears no signals: callbacks can stop a run there.
    """
    stop = Stop()

    def request(number: int, _: FrameType | None) -> None:
        if stop.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.signal = number

    main = threading.current_thread() is threading.main_thread()
    old = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM) if main}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
