"""A weights file of any task, evaluated on a data set, on a page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hybridvit.attribution.explanation import Method
from hybridvit.data.source import Counts
from hybridvit.evaluation import logits
from hybridvit.evaluation.metric import Result
from hybridvit.render.page import save_page
from hybridvit.report.model import about_checkpoint, model_page, result_page
from hybridvit.tasks import find_task
from hybridvit.weights.load import load, read_checkpoint


@dataclass(frozen=True, kw_only=True)
class Written:
    """A page, and what it is about."""

    path: Path
    result: Result
    counts: Counts
    """What was found in the data set."""
    broken: tuple[str, ...]
    """Pictures that could not be read, and are in no figure."""

    def __str__(self) -> str:
        if not isinstance(self.result, logits.Result):
            return f"{self.path}  {self.result}"
        return f"{self.path}  top-1 {self.result.metrics.top1:.2f} % of {self.result.metrics.images} pictures"


def write_report(
    file: str | Path,
    data: str | Path,
    out: str | Path | None = None,
    *,
    root: Path | None = None,
    columns: Sequence[str] = (),
    val_split: float = 0.0,
    method: Method = "occlusion",
    pictures: int = 6,
    batch_size: int = 64,
    workers: int = 0,
    device: torch.device | str = "cpu",
    on_batch: Callable[[int, int], None] = lambda done, total: None,
    on_picture: Callable[[int, int], None] = lambda done, total: None,
) -> Written:
    """Evaluate a weights file and write what there is to say as one HTML file, which loads nothing.

    Of classifiers: score, calibration, confusion, telling pictures with maps, size, speed and origin; of other tasks, the task's
    figures and the origin.

    Args:
        out: by default beside the weights, as .html.
        method: of the maps.
        pictures: best, worst and doubtful ones, so many each.
        on_batch, on_picture: called with how many are evaluated, and explained, and of how many.

    Raises: CheckpointError, DataError, ConfigError for what cannot be read, and for classes that are not the model's.
    """
    file = Path(file)
    model: Any = load(file, device=device)
    task = find_task(model.task)
    data_name, source = task.open_test(data, root=root, columns=columns, val_split=val_split)
    names = str(file), data_name
    result, broken = task.evaluate(
        model, source, names=names, batch_size=batch_size, workers=workers, on_batch=on_batch
    )
    about: dict[str, Any] = {
        "title": f"{file.stem}, a {model.architecture}",
        "data_name": data_name,
        "about": about_checkpoint(file, read_checkpoint(file)),
    }
    if isinstance(result, logits.Result):
        most = min(3 * pictures, len(source))
        html = model_page(
            model, result, **about, method=method, count=pictures, on_picture=lambda done: on_picture(done, most)
        )
    else:
        html = result_page(result, broken, **about)
    path = file.with_suffix(".html") if out is None else Path(out)
    save_page(path, html)
    return Written(path=path, result=result, counts=source.counts, broken=tuple(broken))
