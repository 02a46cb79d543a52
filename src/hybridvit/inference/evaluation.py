"""Files and models against a data set, by their task's own metric: one, or several averaged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hybridvit.data.opening import Data
from hybridvit.data.source import Counts
from hybridvit.deploy.opening import load
from hybridvit.errors import ConfigError
from hybridvit.evaluation import logits, words
from hybridvit.evaluation.classes import Relabelled
from hybridvit.evaluation.imagenet import RealAccuracy
from hybridvit.evaluation.metric import Result
from hybridvit.evaluation.views import averaged, ensemble
from hybridvit.output import Described, Table
from hybridvit.tasks import find_task


@dataclass(frozen=True, kw_only=True)
class Evaluation(Described):
    """What models say about a data set, and how they were asked."""

    result: Result
    models: tuple[str, ...]
    architecture: str
    average: str | None
    data: str
    """The part that was evaluated on."""
    views: str | None
    """What was averaged for each picture, in words; None for the one view that belongs to the weights."""
    counts: Counts
    """What was seen there, taken and passed over."""
    broken: tuple[str, ...]
    """Pictures that could not be read, and are in no figure."""
    reordered: bool
    """Whether the data set's classes come in another order than the model's."""

    @property
    def about(self) -> dict[str, str]:
        found = {"checkpoint": ", ".join(self.models), "average": self.average, "data": self.data, "views": self.views}
        return {key: value for key, value in found.items() if value is not None}

    def to_dict(self, *, real: RealAccuracy | None = None) -> dict[str, Any]:
        found = {**self.about, **self.result.to_dict()}
        found |= {"counts": self.counts.to_dict()} if isinstance(self.result, logits.Result) else {}
        found |= {"real": asdict(real)} if real else {}
        return {**found, "broken": list(self.broken)}

    def describe(self, about: Mapping[str, object] = {}, *, real: RealAccuracy | None = None) -> list[object]:
        """The task's figures, and a table of the classes. `about`: what stands above the figures, too."""
        if isinstance(self.result, logits.Result):
            return words.describe(self.result, {**self.about, **about}, real=real, counts=self.counts)
        rows = self.result.to_dict()["classes"]
        cells = [[f"{v:.2f}" if isinstance(v, float) else v for v in row.values()] for row in rows]
        title = f"{self.about['checkpoint']} on {self.data}"
        blocks: list[object] = [title, f"{self.result}\n", Table(list(rows[0]), cells)]
        if self.broken:
            said = f"{len(self.broken)} pictures could not be read and are in no figure:"
            blocks.append("\n  ".join([said, *self.broken[:10]]))
        return blocks


def open_models(
    models: Sequence[nn.Module | str | Path], *, device: torch.device | str = "cpu"
) -> tuple[list[Any], list[str]]:
    """Files opened, models as they are; and what they are called. Raises: CheckpointError, ConfigError as hybridvit.load."""
    opened = [model if isinstance(model, nn.Module) else load(model, device=device) for model in models]
    return opened, [type(model).__name__ if isinstance(model, nn.Module) else str(model) for model in models]


def evaluate_models(
    models: Sequence[Any],
    names: Sequence[str],
    data: Data,
    *,
    root: Path | None = None,
    columns: Sequence[str] = (),
    val_split: float = 0.0,
    average: str | None = None,
    crops: int = 1,
    flip: bool = False,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
    **loading: Any,
) -> Evaluation:
    """Evaluate a model, or the mean of several (`average`: their "weights" or "answers"), on the part meant for it.

    Args:
        names: of the models, for messages.
        crops, flip: of classifiers, views of each picture that are averaged.
        loading: batch_size and workers.

    Raises: DataError, CheckpointError, ConfigError for what cannot be read or averaged, and for classes that are not the model's.
    """
    called = tuple(names)
    tasks = {getattr(model, "task", "classification") for model in models}
    if len(tasks) > 1:
        raise ConfigError(f"Models of several tasks have no mean: {', '.join(sorted(tasks))}.")
    task, architecture = find_task(tasks.pop()), getattr(models[0], "architecture", None) or names[0]
    data_name, source = task.open_test(data, root=root, columns=columns, val_split=val_split)
    models, names = averaged(models, names, average)
    if len(models) > 1 and not isinstance(task.metric(source, keep=True), logits.Recorder):
        raise ConfigError(f"Answers are averaged for classifiers only; of {task.name}, the weights can be.")
    found: list[tuple[Any, Sequence[str]]] = [
        task.evaluate(model, source, names=(name, data_name), crops=crops, flip=flip, on_batch=on_batch, **loading)
        for model, name in zip(models, names, strict=True)
    ]
    result, broken = found[0]
    if len(found) > 1:
        result = ensemble([answers for answers, _ in found], names)
    return Evaluation(
        result=result,
        models=called,
        architecture=architecture,
        average=average,
        data=data_name,
        views=", ".join(word for word, wanted in (("5 crops", crops == 5), ("mirror image", flip)) if wanted) or None,
        counts=source.counts,
        broken=tuple(broken),
        reordered=isinstance(getattr(result, "source", None), Relabelled),
    )
