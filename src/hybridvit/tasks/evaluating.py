"""A model from a file against pictures that it was not trained with, for tasks whose classes must be the model's own."""

import warnings
from collections.abc import Callable
from typing import Any

from hybridvit.data.loader import eval_loader
from hybridvit.data.source import Source
from hybridvit.errors import DataError, some
from hybridvit.evaluation.metric import Result
from hybridvit.evaluation.run import stream
from hybridvit.tasks.task import Task


def evaluate_model(
    task: Task,
    model: Any,
    source: Source,
    *,
    names: tuple[str, str],
    batch_size: int = 64,
    workers: int = 0,
    on_batch: Callable[[int], None] = lambda _: None,
) -> tuple[Result, list[str]]:
    """Stream all pictures through the model into the task's metric. `names`: of the model, of the data.

    Returns the names of the broken pictures, too, which are in no figure.

    Raises: DataError when the classes are not the model's, in its order.
    """
    known, found = tuple(model.label_names or ()), tuple(source.class_names)
    if known and known != found:
        odd = sorted(set(known) ^ set(found))
        raise DataError(
            f"{names[0]} knows {len(known)} classes, {names[1]} has {len(found)}"
            f"{f'; only in one of them: {some(odd)}' if odd else ', the same in another order'}. "
            "Give the data set the model's classes, in its order."
        )
    loader = eval_loader(
        source,
        preprocess=model.preprocess,
        transform=task.eval_transform(model.preprocess),
        collate=task.collate,
        batch_size=batch_size,
        workers=workers,
    )
    metric = task.metric(source)
    broken = stream(model, loader, metric, predictions=task.predictions, on_batch=on_batch)
    return metric.compute(), [source.name(index) for index in broken]


def evaluate_or_warn(task: Task, model: Any, source: Source, **options: Any) -> Result:
    """The same, with a warning in place of the names."""
    result, broken = evaluate_model(task, model, source, **options)
    if broken:
        warnings.warn(f"{len(broken)} pictures cannot be read and are in no figure: {some(broken)}", stacklevel=2)
    return result
