"""A model from a file against pictures that it was not trained with, for tasks whose classes must be the model's own."""

from collections.abc import Callable
from typing import Any

from hybridvit.data.loader import eval_loader
from hybridvit.data.source import Source
from hybridvit.errors import ConfigError, DataError, some
from hybridvit.evaluation.metric import Result
from hybridvit.evaluation.run import stream
from hybridvit.tasks.task import Task


def evaluate_model(
    task: Task,
    model: Any,
    source: Source,
    *,
    names: tuple[str, str],
    crops: int = 1,
    flip: bool = False,
    batch_size: int = 64,
    workers: int = 0,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Result, list[str]]:
    """Stream all pictures through the model into the task's metric. `names`: of the model, of the data.

    Returns the names of the broken pictures, too, which are in no figure.

    Raises: DataError when the classes are not the model's, in its order; ConfigError for crops and mirror images.
    """
    if crops != 1 or flip:
        raise ConfigError(f"Crops and mirror images are averaged for classifiers only; {names[0]} is for {task.name}.")
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
    broken = stream(
        model, loader, metric, predictions=task.predictions, on_batch=lambda done: on_batch(done, len(source))
    )
    return metric.compute(), [source.name(index) for index in broken]
