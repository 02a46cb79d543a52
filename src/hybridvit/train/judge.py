"""Evaluation during training, and the files it leaves."""

import numpy as np
import torch

from hybridvit.data.loader import eval_loader
from hybridvit.errors import CheckpointError, DataError
from hybridvit.evaluate.history import LOGITS, REPORT, read_run
from hybridvit.evaluate.logits import Result, save_logits
from hybridvit.evaluate.metrics import Metrics
from hybridvit.evaluate.page import save_page
from hybridvit.evaluate.run import evaluate
from hybridvit.evaluate.run_page import run_page
from hybridvit.runtime import environment
from hybridvit.train.precise import measure_batchnorm
from hybridvit.train.run import Run
from hybridvit.train.setup import build_model
from hybridvit.train.shard import gathered, is_sharded, whole_weights
from hybridvit.weights import checkpoint


def judge(run: Run) -> Metrics:
    """Evaluate on the test pictures, each once; note the figures; export the weights if they are the best so far."""
    counters, ranks = run.counters, run.ranks
    if run.recipe.batchnorm.precise_batches and counters.step == run.total_steps:
        measure_batchnorm(run)
    ranks.copy_from_first(run.judged.buffers())
    loader = eval_loader(
        run.splits.test,
        preprocess=run.recipe.preprocess,
        batch_size=run.device_batch,
        max_pixels=run.recipe.data.max_pixels,
        workers=run.recipe.run.workers,
        pin_memory=run.device.type == "cuda",
        rank=ranks.rank,
        world=ranks.world,
    )
    with gathered(run.judged):
        share = evaluate(run.judged, loader, precision=run.recipe.precision)
    result = merge(ranks.gather(share))
    metrics, num_broken = result.metrics, len(result.broken)
    counters.broken = set().union(*ranks.gather(counters.broken))
    figures = {"top1": metrics.top1, "top5": metrics.top5, "test_loss": metrics.loss, "images": metrics.images}
    epoch = counters.step // run.steps_per_epoch
    counters.metrics_bytes = run.reporter.record(
        {
            "step": counters.step,
            "epoch": epoch,
            **figures,
            "broken_train": len(counters.broken),
            "broken_test": num_broken,
            "skipped": counters.skipped,
        }
    )
    is_best = counters.best is None or metrics.top1 > counters.best["top1"]
    if is_best:
        counters.best, counters.best_step = figures, counters.step
        export(run, "best")
    rate = run.reporter.timing(counters.step)
    notes = [f"{num_broken} broken test pictures left out"] if num_broken else []
    notes += [f"{len(counters.broken)} broken training pictures replaced"] if counters.broken else []
    notes += [f"{counters.skipped} non-finite steps skipped"] if counters.skipped else []
    run.reporter.say(
        f"epoch {epoch:3d}/{run.schedule.epochs}  top-1 {metrics.top1:6.2f} %  test loss {metrics.loss:.4f}  "
        f"{rate:.0f} pictures/s{'  best' if is_best else ''}{'  (' + ', '.join(notes) + ')' if notes else ''}"
    )
    if counters.step == run.total_steps:
        leave_report(run, result)
    return metrics


def leave_report(run: Run, result: Result) -> None:
    """Write the last answers and the page that tells the run. What cannot be written is reported, not fatal."""
    if not run.ranks.is_first:
        return
    try:
        save_logits(run.out / LOGITS, result)
        save_page(run.out / REPORT, run_page(read_run(run.out), environment=environment(run.device)))
    except DataError as error:
        run.reporter.say(f"Warning: {error}")


def export(run: Run, name: str) -> None:
    """Write NAME.safetensors: weights, class names, preprocessing and recipe. A full disk is reported, not fatal."""
    model = run.judged
    weights = whole_weights(model) if is_sharded(model) else None
    if not run.ranks.is_first:
        return
    if weights:
        with torch.device("meta"):
            model = build_model(run.recipe, num_classes=len(run.splits.test.class_names))
        model.load_state_dict(weights, assign=True)
    try:
        checkpoint.save(
            run.out / f"{name}.safetensors",
            model,
            label_names=run.splits.test.class_names,
            preprocess=run.recipe.preprocess,
            recipe=run.recipe.to_dict(),
            metrics=run.counters.best,
        )
    except CheckpointError as error:
        run.reporter.say(f"Warning: {error}")


def merge(results: list[Result]) -> Result:
    """The ranks' shares of one evaluation, as one."""
    return Result(
        logits=np.concatenate([result.logits for result in results]),
        labels=np.concatenate([result.labels for result in results]),
        paths=tuple(path for result in results for path in result.paths),
        class_names=results[0].class_names,
        broken=tuple(path for result in results for path in result.broken),
    )
