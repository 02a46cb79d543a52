"""What classifiers say about one set of pictures, or about ImageNet-C's tree of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hybridvit.data.loader import eval_loader
from hybridvit.data.readers.folder import read_folder
from hybridvit.data.source import Source
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
from hybridvit.evaluation.views import averaged, ensemble, view_transform
from hybridvit.output import Described, Table

Advance = Callable[[int, int], None]
"""Told how many pictures are done, and of how many."""


@dataclass(frozen=True, kw_only=True)
class Corruptions(Described):
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


def evaluate_corruptions(
    models: Sequence[Any],
    names: Sequence[str],
    folders: Mapping[str, Mapping[int, Path]],
    *,
    average: str | None = None,
    **how: Any,
) -> Corruptions:
    """A classifier, or the mean of several, on every folder of ImageNet-C (evaluation.imagenet.corruption_folders)."""
    models, names = averaged(models, names, average)
    errors: dict[str, list[float]] = {}
    broken = 0
    for name, by_severity in folders.items():
        for folder in by_severity.values():
            source = read_folder(folder)
            results = [
                answers(model, source, names=(called, str(folder)), **how)[1]
                for model, called in zip(models, names, strict=True)
            ]
            result = ensemble(results, names)
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
