"""Checkpoints on data sets: one, or several averaged, on one set of pictures or on ImageNet-C's tree of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hybridvit.data.loader import eval_loader
from hybridvit.data.opening import open_test
from hybridvit.data.readers.folder import read_folder
from hybridvit.data.source import Counts, Source
from hybridvit.data.transforms import WithoutFrame
from hybridvit.evaluation.classes import Relabelled, align
from hybridvit.evaluation.imagenet import (
    ALEXNET_ERRORS,
    Corruption,
    corruption_errors,
    mean_corruption_error,
    restrict,
)
from hybridvit.evaluation.logits import Result
from hybridvit.evaluation.run import evaluate
from hybridvit.evaluation.views import average_weights, ensemble, view_transform
from hybridvit.output import Table
from hybridvit.weights.load import load

Advance = Callable[[int, int], None]
"""Told how many pictures are done, and of how many."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What checkpoints say about a data set."""

    result: Result
    data: str
    """The part that was judged on."""
    architecture: str
    views: str | None
    """What was averaged for each picture, in words; None for the one view that belongs to the weights."""
    counts: Counts
    """What was seen there, taken and passed over."""
    reordered: bool
    """Whether the data set's classes come in another order than a model's."""


@dataclass(frozen=True, kw_only=True)
class Corruptions:
    """ImageNet-C: top-1 errors by corruption and severity, and their mean against AlexNet's."""

    mce: float
    corruptions: list[Corruption]
    missing: list[str]
    broken: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def describe(self) -> list[object]:
        """A table by severity, and sentences."""
        rows = [[c.name, *(f"{error:.2f}" for error in c.errors), f"{c.relative:.2f}"] for c in self.corruptions]
        header = ["corruption", "1", "2", "3", "4", "5", "of AlexNet's"]
        blocks: list[object] = [
            Table(header, rows, "Top-1 errors in percent, by severity"),
            f"\nmean corruption error  {self.mce:.2f} %  over {len(rows)} corruptions",
        ]
        if self.missing:
            number = len(ALEXNET_ERRORS)
            blocks.append(f"Published figures are over all {number}; missing here: {', '.join(self.missing)}")
        if self.broken:
            blocks.append(f"{self.broken} pictures could not be read and are in no figure.")
        return blocks


def evaluate_files(
    files: Sequence[str | Path | nn.Module],
    data: str | Path,
    *,
    root: Path | None = None,
    columns: Sequence[str] = (),
    val_split: float = 0.0,
    average: str | None = None,
    device: torch.device | str = "cpu",
    crops: int = 1,
    flip: bool = False,
    on_batch: Advance = lambda done, total: None,
    **loading: Any,
) -> Judged:
    """Judge a checkpoint or a model, or the mean of several (`average`: their "weights" or "answers"), on a data set.

    Raises: CheckpointError, DataError, ConfigError for what cannot be read, and for classes that are not the model's.
    """
    models, names = _open(files, average, device)
    data_name, found = open_test(data, root=root, columns=columns, val_split=val_split)
    result, reordered = _mean(models, names, found, data_name, crops=crops, flip=flip, on_batch=on_batch, **loading)
    words = [word for word, wanted in (("5 crops", crops == 5), ("mirror image", flip)) if wanted]
    return Judged(
        result=result,
        data=data_name,
        counts=found.counts,
        architecture=models[0].architecture,
        views=", ".join(words) or None,
        reordered=reordered,
    )


def evaluate_corruptions(
    files: Sequence[str | Path | nn.Module],
    folders: Mapping[str, Mapping[int, Path]],
    *,
    average: str | None = None,
    device: torch.device | str = "cpu",
    **how: Any,
) -> Corruptions:
    """As evaluate_files on every folder of ImageNet-C (evaluate.imagenet.corruption_folders)."""
    models, names = _open(files, average, device)
    errors: dict[str, list[float]] = {}
    broken = 0
    for name, by_severity in folders.items():
        for folder in by_severity.values():
            result, _ = _mean(models, names, read_folder(folder), str(folder), **how)
            errors.setdefault(name, []).append(100 - result.metrics.top1)
            broken += len(result.broken)
    corruptions = corruption_errors(errors)
    missing = sorted(ALEXNET_ERRORS.keys() - errors.keys())
    return Corruptions(mce=mean_corruption_error(corruptions), corruptions=corruptions, missing=missing, broken=broken)


def answers(
    model: Any,
    found: Source,
    *,
    names: tuple[str, str],
    crops: int = 1,
    flip: bool = False,
    batch_size: int = 64,
    workers: int = 0,
    on_batch: Advance = lambda done, total: None,
) -> tuple[Source, Result]:
    """What a model says about pictures, and these with the model's class numbers. `names`: of the model, of the data."""
    source = align(found, model.label_names, num_classes=model.num_classes, model_name=names[0], data_name=names[1])
    several = None
    if crops != 1 or flip:
        several = WithoutFrame(view_transform(model.preprocess, crops=crops, flip=flip))
    loader = eval_loader(source, preprocess=model.preprocess, transform=several, batch_size=batch_size, workers=workers)
    result = evaluate(model, loader, on_batch=lambda done: on_batch(done, len(source)))
    if isinstance(source, Relabelled) and len(source.places) < model.num_classes:
        result = restrict(result, source.places)
    return source, result


def _open(
    files: Sequence[str | Path | nn.Module], average: str | None, device: torch.device | str
) -> tuple[list[Any], list[str]]:
    names = [type(file).__name__ if isinstance(file, nn.Module) else str(file) for file in files]
    models: list[nn.Module] = [file if isinstance(file, nn.Module) else load(file, device=device) for file in files]
    if average == "weights":
        return [average_weights(models, names)], [f"the mean of {', '.join(names)}"]
    return models, names


def _mean(
    models: Sequence[Any], names: Sequence[str], found: Source, data_name: str, **how: Any
) -> tuple[Result, bool]:
    pairs = [answers(model, found, names=(name, data_name), **how) for model, name in zip(models, names, strict=True)]
    results = [result for _, result in pairs]
    reordered = any(source is not found for source, _ in pairs)
    return ensemble(results, names) if len(results) > 1 else results[0], reordered
