"""Training and evaluation as functions: what the commands call, and what a notebook shows.

run = hybridvit.train("digits", "digits/", out="runs/first", optimizer={"lr": 1e-3})
run.best, run.metrics, run.model
hybridvit.evaluate(run.model, "digits/").top1
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from hybridvit.config import Recipe, load_recipe, recipe_from_dict
from hybridvit.data.opening import Data
from hybridvit.data.source import Splits
from hybridvit.errors import DataError, some
from hybridvit.evaluation.metric import Result
from hybridvit.evaluation.table import to_frame, to_html
from hybridvit.inference.evaluation import evaluate_models, open_models
from hybridvit.render.page import fragment
from hybridvit.report.history import REPORT, History, read_run
from hybridvit.report.run import curves
from hybridvit.runtime import joined_ranks, local_device, pick_device
from hybridvit.tasks import find_task
from hybridvit.training.loop import Callback, fit, prepare
from hybridvit.weights.load import load


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run, finished or stopped, and what it left in its folder."""

    out: Path
    recipe: Recipe
    step: int
    total_steps: int
    stopped_by: int
    """The signal that stopped it; 0: none did."""
    best: Mapping[str, Any] | None
    """Step and figures of the best evaluation, whose weights are best.safetensors; None before the first."""
    result: Result | None
    """Of the last evaluation, where there was one."""
    say: Callable[[str], None] = field(repr=False, compare=False)
    """Tells the console that `train` was given; silent on other ranks than the first."""

    @property
    def finished(self) -> bool:
        return self.step == self.total_steps

    @cached_property
    def history(self) -> History:
        return read_run(self.out)

    @property
    def metrics(self) -> Any:
        """A pandas.DataFrame of metrics.jsonl: losses and evaluations by step. Raises: ConfigError without pandas."""
        return to_frame(self.history.metrics)

    @cached_property
    def model(self) -> nn.Module:
        """The best weights, on the CPU. Raises: CheckpointError before the first evaluation."""
        return load(self.out / "best.safetensors")

    def report(self) -> Path:
        """The page that tells the run. Raises: DataError before the end."""
        path = self.out / REPORT
        if not path.is_file():
            raise DataError(
                f"{path} is written at the end of a run; this one is at step {self.step} of {self.total_steps}."
            )
        return path

    def __str__(self) -> str:
        task = find_task(self.recipe.task)
        best = (
            f"{task.primary_name} {self.best[task.primary]:.2f} % at step {self.best['step']}"
            if self.best
            else "none yet"
        )
        return f"{self.recipe.about.title}: step {self.step} of {self.total_steps} in {self.out}\nbest  {best}"

    def _repr_html_(self) -> str:
        lines = [line for line in self.history.metrics if "epoch" in line]
        columns = list(lines[0]) if lines else []
        rows = [[line.get(key) for key in columns] for line in lines]
        return "".join([to_html(str(self), columns, rows), fragment(curves({"": self.history}))])


def train(
    recipe: str | Path | Recipe,
    data: Data | Splits,
    *,
    out: str | Path | None = None,
    init: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    root: Path | None = None,
    columns: tuple[str, ...] = (),
    on_step: Callback | None = None,
    on_epoch: Callback | None = None,
    console: Console | None = None,
    **changes: Any,
) -> Run:
    """Train by a recipe (a name, a YAML file, or a Recipe), until the end or until a signal or a callback stops it.

    Args:
        data: a path as the command takes it, a torch Dataset of (PIL picture, label), a Hugging Face data set, or a mapping of
            such by part, {"train": ..., "test": ...}.
        out: where the run is kept, by default runs/RECIPE.
        init: weights to begin from: a file, or a name such as cvt_13.ms_in1k.
        resume: go on with the run in `out`, if there is one.
        on_step, on_epoch: called with what metrics.jsonl holds of a step or an evaluation; True stops the run, after saving.
        console: where to tell of the run; by default nowhere.
        changes: to the recipe, by section or field: optimizer={"lr": 1e-3}, seed=3.

    Works in threads (signals are heard in the main one only), in notebooks and in other frameworks' worker processes.

    Raises: ConfigError, DataError, CheckpointError, TrainingError, as `hybridvit train`.
    """
    name = recipe.about.title if isinstance(recipe, Recipe) else Path(recipe).stem
    values = (recipe if isinstance(recipe, Recipe) else load_recipe(recipe)).to_dict()
    resolved = recipe_from_dict(
        _merged(values, changes), source=f"{name}, changed by {', '.join(changes)}" if changes else name
    )
    if not isinstance(data, Splits):
        open_splits = find_task(resolved.task).open_splits
        data = open_splits(data, root=root, columns=columns, val_split=resolved.data.val_split)
    folder = Path("runs") / name if out is None else Path(out)
    where = local_device(device)
    with joined_ranks(where) as ranks:
        run = prepare(resolved, data, out=folder, device=where, ranks=ranks, init=init, resume=resume, console=console)
        run.reporter.say(data.summary())
        stop = fit(run, on_step=on_step, on_epoch=on_epoch)
    counters = run.counters
    return Run(
        out=folder,
        recipe=resolved,
        step=counters.step,
        total_steps=run.total_steps,
        stopped_by=stop.signal,
        best=None if counters.best is None else {"step": counters.best_step, **counters.best},
        result=run.result,
        say=run.reporter.say,
    )


def evaluate(
    model: nn.Module | str | Path | Sequence[nn.Module | str | Path],
    data: Data,
    *,
    average: str | None = None,
    crops: int = 1,
    flip: bool = False,
    root: Path | None = None,
    columns: tuple[str, ...] = (),
    val_split: float = 0.0,
    batch_size: int = 64,
    workers: int = 0,
    device: str | torch.device | None = None,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """How good a model is on a data set, by its task's figures, with the preprocessing it was made for.

    Args:
        model: a loaded model, which stays on its device; a weights file, by default on the best device; a file of
            `hybridvit.export`. Several are averaged: `average` says what of them, "weights" or "answers".
        data: as for `train`; a data set's test part, or a whole.
        crops, flip: of classifiers, 5 crops and the mirror image of each picture, averaged.
        on_batch: called with how many pictures are done, and of how many.

    Pictures that cannot be read are in no figure, and a warning names them.

    Raises: DataError, CheckpointError, ConfigError as `hybridvit eval`.
    """
    asked = [model] if isinstance(model, nn.Module | str | Path) else list(model)
    if device is not None and any(isinstance(each, nn.Module) for each in asked):
        raise DataError("device is for weights files; a loaded model is evaluated where it is.")
    models, names = open_models(asked, device=pick_device("auto") if device is None else device)
    found = evaluate_models(
        models,
        names,
        data,
        root=root,
        columns=columns,
        val_split=val_split,
        average=average,
        crops=crops,
        flip=flip,
        batch_size=batch_size,
        workers=workers,
        on_batch=on_batch,
    )
    if found.broken:
        said = f"{len(found.broken)} pictures cannot be read and are in no figure: {some(found.broken)}"
        warnings.warn(said, stacklevel=2)
    return found.result


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Sections field by field, anything else replaced."""
    merged = dict(values)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
