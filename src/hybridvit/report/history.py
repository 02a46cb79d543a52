"""What a run's folder tells about it: its recipe, its metrics and its speed."""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hybridvit.errors import DataError
from hybridvit.tasks import find_task
from hybridvit.typed import flat

REPORT = "report.html"
NO_CURVES = frozenset({"step", "epoch", "images", "skipped", "broken_train", "broken_test"})
"""Keys of metrics.jsonl that count."""


@dataclass(frozen=True)
class History:
    """One run."""

    folder: Path
    recipe: dict[str, Any]
    metrics: list[dict[str, Any]]
    timings: list[dict[str, Any]]
    primary: str
    """The figure by which its task chooses the best weights; higher is better."""
    primary_name: str
    """The same for people: top-1."""

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    def curve(self, key: str) -> list[tuple[float, float]]:
        """(step, value) wherever the run noted it."""
        lines = self.timings if key == "images_per_second" else self.metrics
        return [(line["step"], line[key]) for line in lines if _is_figure(line.get(key))]

    @property
    def curves(self) -> list[str]:
        """What there is a curve of, in the order in which the run noted it."""
        keys = dict.fromkeys(key for line in (*self.metrics, *self.timings) for key in line)
        return [key for key in keys if key not in NO_CURVES and self.curve(key)]

    @property
    def best(self) -> dict[str, Any] | None:
        """The line of the best evaluation; the earliest among equals, as its weights are those that were kept."""
        return max(self._evaluations, key=lambda line: line[self.primary], default=None)

    @property
    def last(self) -> dict[str, Any]:
        """The line of the last evaluation; empty before there was one."""
        return self._evaluations[-1] if self._evaluations else {}

    @property
    def _evaluations(self) -> list[dict[str, Any]]:
        return [line for line in self.metrics if _is_figure(line.get(self.primary))]

    @property
    def speed(self) -> float | None:
        """The median of the pictures per second."""
        rates = [rate for _, rate in self.curve("images_per_second")]
        return statistics.median(rates) if rates else None


def read_run(folder: str | Path) -> History:
    """Raises: DataError when the folder holds no run, ConfigError when its task is not known."""
    folder = Path(folder)
    try:
        recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
        if not (isinstance(recipe, dict) and isinstance(recipe.get("model"), dict) and "name" in recipe["model"]):
            raise ValueError("recipe.yaml names no model")
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(
            f"{folder} is not the folder of a run ({error}). Expected recipe.yaml and metrics.jsonl, as `hybridvit train` "
            "leaves them."
        ) from error
    metrics, timings = (read_history(folder / f"{name}.jsonl") for name in ("metrics", "timings"))
    task = find_task(recipe.get("task", "classification"))
    return History(folder, recipe, metrics, timings, task.primary, task.primary_name)


def differences(runs: Sequence[History]) -> list[tuple[str, list[Any]]]:
    """The recipe's keys that are not the same in all runs, with their values."""
    recipes = [flat(run.recipe) for run in runs]
    keys = sorted({key for values in recipes for key in values if not key.startswith("about.")})
    rows = [(key, [values.get(key) for values in recipes]) for key in keys]
    return [(key, values) for key, values in rows if any(value != values[0] for value in values)]


def read_history(path: str | Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, or timings.jsonl; none where there is no such file. Raises: DataError when it is damaged."""
    path = Path(path)
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not what `hybridvit train` writes, a JSON object per line: {error}") from error


def _is_figure(value: object) -> bool:
    """Older runs noted NaN where later ones note null."""
    return isinstance(value, int | float) and math.isfinite(value)
