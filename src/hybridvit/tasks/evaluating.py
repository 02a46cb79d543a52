"""A model from a file against pictures that it was not trained with, for tasks whose classes must be the model's own."""

import warnings
from typing import Any

from hybridvit.data.loader import eval_loader
from hybridvit.data.source import Source
from hybridvit.errors import DataError, some
from hybridvit.evaluate.metric import Result
from hybridvit.evaluate.run import stream
from hybridvit.tasks.task import Task


def evaluate_model(
    task: Task, model: Any, source: Source, *, names: tuple[str, str], batch_size: int = 64, workers: int = 0
) -> Result:
    """Stream all pictures through the model into the task's metric. `names`: of the model, of the data.

    Warns of pictures that cannot be read; they are in no figure.

    Raises: DataError when the classes are not the model's, in its order.
    """
    known = model.label_names
    if known is not None and tuple(known) != tuple(source.class_names):
        raise DataError(
            f"The classes of {names[0]} ({some(list(known))}) are not those of {names[1]} ({some(list(source.class_names))}), "
            "or in another order. Use the data set it was made for."
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
    broken = stream(model, loader, metric, predictions=task.predictions)
    if broken:
        some_names = some([source.name(index) for index in broken])
        warnings.warn(f"{len(broken)} pictures cannot be read and are in no figure: {some_names}", stacklevel=2)
    return metric.compute()
