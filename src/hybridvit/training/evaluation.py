"""Evaluation during training, and the files it leaves."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from hybridvit.data.loader import eval_loader
from hybridvit.errors import CheckpointError
from hybridvit.evaluation.metric import Metric
from hybridvit.evaluation.run import stream
from hybridvit.render.page import save_page
from hybridvit.report.examples import examples, telling
from hybridvit.report.history import REPORT, read_run
from hybridvit.report.run import run_page
from hybridvit.runtime import environment
from hybridvit.training.building import build_model
from hybridvit.training.precise import measure_batchnorm
from hybridvit.training.shard import gathered, is_sharded, whole_weights
from hybridvit.training.trainer import Trainer
from hybridvit.weights import checkpoint


def evaluate(run: Trainer) -> dict[str, Any]:
    """Evaluate on the test pictures, each once; note the figures; export the weights if they are the best so far.

    Returns the line of metrics.jsonl.
    """
    counters, task = run.counters, run.task
    if run.recipe.batchnorm.precise_batches and run.finished:
        measure_batchnorm(run)
    metric, broken = over_ranks(run)
    run.result = metric.compute()
    figures = dict(run.result.figures)
    counters.broken = set().union(*run.ranks.gather(counters.broken))
    epoch = counters.step // run.steps_per_epoch
    line = {
        "step": counters.step,
        "epoch": epoch,
        **figures,
        "broken_train": len(counters.broken),
        "broken_test": len(broken),
        "skipped": counters.skipped,
    }
    counters.metrics_bytes = run.reporter.record(line)
    is_best = counters.best is None or better(figures[task.primary], counters.best[task.primary])
    if is_best:
        counters.best, counters.best_step = figures, counters.step
        export(run, "best")
    counters.evaluated = counters.step
    rate = run.reporter.timing(counters.step)
    notes = [f"{len(broken)} broken test pictures left out"] if broken else []
    notes += [f"{len(counters.broken)} broken training pictures replaced"] if counters.broken else []
    notes += [f"{counters.skipped} non-finite steps skipped"] if counters.skipped else []
    notes += [f"{counters.rescaled} steps left to find float16's scale"] if counters.rescaled else []
    loss = f"  test loss {figures['test_loss']:.4f}" if figures.get("test_loss") is not None else ""
    run.reporter.say(
        f"epoch {epoch:3d}/{run.schedule.epochs}  {task.primary_name} {in_percent(figures[task.primary], width=6)}{loss}  "
        f"{rate:.0f} pictures/s{'  best' if is_best else ''}{'  (' + ', '.join(notes) + ')' if notes else ''}"
    )
    if run.finished and run.ranks.is_first:
        with reported(run):
            run.result = metric.save(run.out, run.splits.test, broken=broken) or run.result
    return line


def over_ranks(run: Trainer) -> tuple[Metric, list[int]]:
    """The metric of all test pictures and the numbers of the broken ones, on every rank. Each evaluates its share."""
    recipe, task, ranks = run.recipe, run.task, run.ranks
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
    share = task.metric(run.splits.test, keep=run.finished)
    with gathered(run.evaluated):
        broken = stream(run.evaluated, loader, share, predictions=task.predictions, precision=recipe.precision)
    metric, *others = ranks.gather(share)
    metric.merge(others)
    return metric, [index for part in ranks.gather(broken) for index in part]


def in_percent(figure: float | None, *, width: int = 0) -> str:
    return "-" * max(width, 1) if figure is None else f"{figure:{width}.2f} %"


def better(figure: float | None, than: float | None) -> bool:
    return figure is not None and (than is None or figure > than)


def leave_report(run: Trainer) -> None:
    """Write the page that tells the run and its last evaluation."""
    if run.ranks.is_first and run.result:
        with reported(run):
            answers, test = [run.result._repr_html_()], run.splits.test
            title, numbers = telling(run.result, test)
            if numbers and not is_sharded(run.evaluated):  # a sharded model answers only where every rank asks it
                shown = examples(run.evaluated, run.task, test, run.recipe.preprocess, numbers=numbers, title=title)
                answers.append(shown)
            html = run_page(read_run(run.out), answers="".join(answers), environment=environment(run.device))
            save_page(run.out / REPORT, html)


@contextmanager
def reported(run: Trainer) -> Iterator[None]:
    """Say what went wrong with a page or a plot and go on: the weights matter more."""
    try:
        yield
    except Exception as error:  # full disks, odd names, other people's code
        run.reporter.say(f"Warning: {error}")


def export(run: Trainer, name: str) -> None:
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
