"""Evaluation during training, and the files it leaves."""

import torch

from hybridvit.data.loader import eval_loader
from hybridvit.errors import CheckpointError, DataError
from hybridvit.evaluate.metric import Metric
from hybridvit.evaluate.run import stream
from hybridvit.render.page import save_page
from hybridvit.report.history import REPORT, read_run
from hybridvit.report.run import run_page
from hybridvit.runtime import environment
from hybridvit.train.precise import measure_batchnorm
from hybridvit.train.run import Run
from hybridvit.train.setup import build_model
from hybridvit.train.shard import gathered, is_sharded, whole_weights
from hybridvit.weights import checkpoint


def evaluate(run: Run) -> None:
    """Evaluate on the test pictures, each once; note the figures; export the weights if they are the best so far."""
    counters, ranks, task, recipe = run.counters, run.ranks, run.task, run.recipe
    is_last = counters.step == run.total_steps
    if recipe.batchnorm.precise_batches and is_last:
        measure_batchnorm(run)
    ranks.copy_from_first(run.evaluated.buffers())
    loader = eval_loader(
        run.splits.test,
        preprocess=recipe.preprocess,
        transform=task.eval_transform(recipe.preprocess),
        collate=task.collate,
        batch_size=run.device_batch,
        max_pixels=recipe.data.max_pixels,
        workers=recipe.run.workers,
        pin_memory=run.device.type == "cuda",
        rank=ranks.rank,
        world=ranks.world,
    )
    metric = task.metric(run.splits.test, keep=is_last)
    with gathered(run.evaluated):
        broken = stream(run.evaluated, loader, metric, predictions=task.predictions, precision=recipe.precision)
    metric, *others = ranks.gather(metric)
    metric.merge(others)
    figures = dict(metric.compute().figures)
    broken = [index for share in ranks.gather(broken) for index in share]
    counters.broken = set().union(*ranks.gather(counters.broken))
    epoch = counters.step // run.steps_per_epoch
    counters.metrics_bytes = run.reporter.record(
        {
            "step": counters.step,
            "epoch": epoch,
            **figures,
            "broken_train": len(counters.broken),
            "broken_test": len(broken),
            "skipped": counters.skipped,
        }
    )
    is_best = counters.best is None or better(figures[task.primary], counters.best[task.primary])
    if is_best:
        counters.best, counters.best_step = figures, counters.step
        export(run, "best")
    rate = run.reporter.timing(counters.step)
    notes = [f"{len(broken)} broken test pictures left out"] if broken else []
    notes += [f"{len(counters.broken)} broken training pictures replaced"] if counters.broken else []
    notes += [f"{counters.skipped} non-finite steps skipped"] if counters.skipped else []
    run.reporter.say(
        f"epoch {epoch:3d}/{run.schedule.epochs}  {task.headline(figures)}  "
        f"{rate:.0f} pictures/s{'  best' if is_best else ''}{'  (' + ', '.join(notes) + ')' if notes else ''}"
    )
    if is_last:
        leave_report(run, metric, broken)


def better(figure: float | None, than: float | None) -> bool:
    return figure is not None and (than is None or figure > than)


def leave_report(run: Run, metric: Metric, broken: list[int]) -> None:
    """Write the last answers and the page that tells the run. What cannot be written is reported, not fatal."""
    if not run.ranks.is_first:
        return
    try:
        result = metric.save(run.out, run.splits.test, broken=broken) or metric.compute()
        history = read_run(run.out, primary=run.task.primary)
        html = run_page(history, answers=result._repr_html_(), environment=environment(run.device))
        save_page(run.out / REPORT, html)
    except DataError as error:
        run.reporter.say(f"Warning: {error}")


def export(run: Run, name: str) -> None:
    """Write NAME.safetensors: weights, class names, preprocessing and recipe. A full disk is reported, not fatal."""
    model = run.evaluated
    weights = whole_weights(model) if is_sharded(model) else None
    if not run.ranks.is_first:
        return
    if weights:
        with torch.device("meta"):
            model = build_model(run.recipe, num_classes=len(run.splits.test.class_names))
        model.load_state_dict(weights, assign=True)
    try:
        checkpoint.save(
            model,
            run.out / f"{name}.safetensors",
            label_names=run.splits.test.class_names,
            preprocess=run.recipe.preprocess,
            recipe=run.recipe.to_dict(),
            metrics=run.counters.best,
            task=run.task.name,
        )
    except CheckpointError as error:
        run.reporter.say(f"Warning: {error}")
