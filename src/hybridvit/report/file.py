"""A weights file judged on a data set, on a page."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from hybridvit.attribution.explanation import Method
from hybridvit.data.opening import open_test
from hybridvit.data.source import Counts
from hybridvit.evaluation.answers import answers
from hybridvit.evaluation.logits import Result
from hybridvit.report.model import about_checkpoint, model_page
from hybridvit.weights.load import load, read_checkpoint


def report_file(
    file: Path,
    *,
    data: str | Path,
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
) -> tuple[str, Result, Counts]:
    """The page as HTML, what is said on it in figures, and what was found in the data set.

    Args:
        method: of the maps.
        pictures: best, worst and doubtful ones, so many each.
        on_batch, on_picture: called with how many are evaluated, and explained, and of how many.

    Raises: CheckpointError, DataError, ConfigError for what cannot be read, and for classes that are not the model's.
    """
    model: Any = load(file, device=device)
    data_name, found = open_test(data, root=root, columns=columns, val_split=val_split)
    names = str(file), data_name
    source, result = answers(model, found, names=names, batch_size=batch_size, workers=workers, on_batch=on_batch)
    most = min(3 * pictures, len(source))
    html = model_page(
        model,
        result,
        source,
        title=f"{file.stem}, a {model.architecture}",
        data_name=data_name,
        about=about_checkpoint(file, read_checkpoint(file)),
        method=method,
        count=pictures,
        on_picture=lambda done: on_picture(done, most),
    )
    return html, result, found.counts
