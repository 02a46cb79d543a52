"""A weights file of any task judged on a data set, by the task's own metric."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hybridvit.evaluation.metric import Result
from hybridvit.output import Table
from hybridvit.tasks import find_task
from hybridvit.tasks.evaluating import evaluate_model
from hybridvit.weights.load import load


@dataclass(frozen=True)
class Judgement:
    result: Result
    data: str
    """The part that was judged on."""
    broken: list[str]
    """Pictures that could not be read, and are in no figure."""

    def describe(self) -> list[object]:
        """The task's figures, and a table of the classes."""
        rows = self.result.to_dict()["classes"]
        cells = [[f"{v:.2f}" if isinstance(v, float) else v for v in row.values()] for row in rows]
        blocks: list[object] = [f"{self.result}\n", Table(list(rows[0]), cells)]
        if self.broken:
            said = f"{len(self.broken)} pictures could not be read and are in no figure:"
            blocks.append("\n  ".join([said, *self.broken[:10]]))
        return blocks


def judge(
    file: str | Path | nn.Module,
    data: str | Path,
    *,
    root: Path | None = None,
    val_split: float = 0.0,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    workers: int = 0,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Judgement:
    """Evaluate a weights file or a model on the part of a data set that is to be judged on, every picture once.

    Raises: CheckpointError, DataError for what cannot be read; DataError for classes that are not the model's.
    """
    model: Any = file if isinstance(file, nn.Module) else load(file, device=device)
    task = find_task(model.task)
    name, source = task.open_test(data, root=root, val_split=val_split)
    result, broken = evaluate_model(
        task,
        model,
        source,
        names=(type(file).__name__ if isinstance(file, nn.Module) else str(file), str(data)),
        batch_size=batch_size,
        workers=workers,
        on_batch=lambda done: on_batch(done, len(source)),
    )
    return Judgement(result, name, broken)
