"""The training loop. What it does to the model stands in `fit`; what it needs was built in setup.py."""

import math
import random
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import FrameType

import numpy as np
import torch

from hybridvit.data.loader import TrainBatch
from hybridvit.errors import DataError, TrainingError
from hybridvit.runtime import seed_for, weights_dtype
from hybridvit.train.errors import explained
from hybridvit.train.evaluation import evaluate, export
from hybridvit.train.guard import Guard, first_nonfinite_module
from hybridvit.train.run import Run
from hybridvit.train.shard import clip_gradients


@dataclass
class Stop:
    """Set by Ctrl-C or SIGTERM, read after every step."""

    signal: int = 0


def fit(run: Run) -> Stop:
    """Train to the end, or until a signal asks to stop: the state is saved then, and the run can go on later.

    Raises:
        DataError: more broken pictures than data.broken_limit.
        TrainingError: more non-finite steps than optimizer.skip_limit.
    """
    recipe, counters, ranks, guard = run.recipe, run.counters, run.ranks, Guard(run.model)
    zero = torch.zeros((), device=run.device, dtype=weights_dtype(recipe.precision))
    batches = iter(run.loader)
    run.reporter.start(step=counters.step, total=run.total_steps, metrics_bytes=counters.metrics_bytes)
    saved_at = time.monotonic()
    with closing(run), explained(run), stop_on_signals() as stop:
        for step in range(counters.step, run.total_steps):
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
                run.scaler.step(run.optimizer)
                if run.ema:
                    run.ema.update(run.model, step + 1)
                counters.add_losses(dict(zip(sums, means, strict=True)))
            else:
                guard.restore()
                if not (run.scaler.is_enabled() and math.isfinite(sum(means))):  # float16's scale is finding its value
                    count_skipped(run, batch, lr=lr, seed=seed_for(recipe.seed, step, chunk))
            run.scaler.update()
            run.optimizer.zero_grad(set_to_none=True)
            counters.step = step + 1

            run.reporter.stepped(counters.step, recipe.global_batch)
            if counters.step % recipe.run.log_steps == 0:
                run.log(lr=lr, grad_norm=norm.item())
            finished = counters.step == run.total_steps
            evaluate_now = counters.step % (run.steps_per_epoch * recipe.run.eval_epochs) == 0
            if evaluate_now or finished:
                evaluate(run)
            if evaluate_now or finished or save_now or stop_now:
                run.save()
                saved_at = time.monotonic()
            if stop_now:
                break
        if counters.step == run.total_steps:
            export(run, "last")
    return stop


def seed_all(seed: int) -> None:
    """Seed dropout, drop path, erasing and mixing, on every device."""
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002  timm's Mixup draws from numpy's global generator
    torch.manual_seed(seed)


def count_broken(run: Run, batch: TrainBatch) -> None:
    """Note the chunk's broken pictures; raise DataError when they are too many."""
    counters, source = run.counters, run.splits.train
    new = set(batch.broken.tolist()) - counters.broken
    for index in sorted(new):
        run.reporter.say(f"Warning: {source.name(index)} cannot be read; another picture takes its place.")
    counters.broken |= new
    limit = run.recipe.data.broken_limit
    if len(counters.broken) > max(limit * len(source), 1) and new:
        names = "\n".join(f"  {source.name(index)}" for index in sorted(counters.broken)[:10])
        raise DataError(
            f"{len(counters.broken)} of {len(source)} training pictures cannot be read, more than data.broken_limit "
            f"({limit:g}) allows:\n{names}\nRepair or remove them, or raise the limit."
        )


def count_skipped(run: Run, batch: TrainBatch, *, lr: float, seed: int) -> None:
    """Note a step left out; raise TrainingError when they are too many."""
    counters = run.counters
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
    """Turn the first Ctrl-C or SIGTERM into a request; a second Ctrl-C interrupts at once."""
    stop = Stop()

    def request(number: int, _: FrameType | None) -> None:
        if stop.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.signal = number

    old = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
