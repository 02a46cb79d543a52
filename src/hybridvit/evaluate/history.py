"""What a run's folder tells about it: its recipe, its metrics, its speed and its last answers."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hybridvit.errors import DataError
from hybridvit.evaluate.logits import LOGITS, Result, load_logits

REPORT = "report.html"


@dataclass(frozen=True)
class History:
    """One run."""

    folder: Path
    recipe: dict[str, Any]
    metrics: list[dict[str, Any]]
    timings: list[dict[str, Any]]

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    def curve(self, key: str) -> list[tuple[float, float]]:
        """(step, value) wherever the run noted it."""
        lines = self.timings if key == "images_per_second" else self.metrics
        return [(line["step"], line[key]) for line in lines if line.get(key) is not None]

    @property
    def best(self) -> dict[str, Any] | None:
        """The line of the best evaluation; the earliest among equals, as its weights are those that were kept."""
        judged = [line for line in self.metrics if line.get("top1") is not None]
        return max(judged, key=lambda line: line["top1"]) if judged else None

    @property
    def speed(self) -> float | None:
        """The median of the pictures per second."""
        rates = [rate for _, rate in self.curve("images_per_second")]
        return statistics.median(rates) if rates else None

    def result(self) -> Result | None:
        """The answers of the last evaluation; None before the end of the run."""
        path = self.folder / LOGITS
        return load_logits(path) if path.is_file() else None


def read_run(folder: str | Path) -> History:
    """Raises: DataError when the folder holds no run."""
    folder = Path(folder)
    try:
        recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
        metrics = _lines(folder / "metrics.jsonl")
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(
            f"{folder} is not the folder of a run ({error}). Expected recipe.yaml and metrics.jsonl, as `hybridvit train` "
            "leaves them."
        ) from error
    timings = folder / "timings.jsonl"
    return History(folder, recipe, metrics, _lines(timings) if timings.is_file() else [])


def differences(runs: Sequence[History]) -> list[tuple[str, list[Any]]]:
    """The recipe's keys that are not the same in all runs, with their values."""
    flat = [_flat(run.recipe) for run in runs]
    keys = sorted({key for values in flat for key in values if not key.startswith("about.")})
    rows = [(key, [values.get(key) for values in flat]) for key in keys]
    return [(key, values) for key, values in rows if any(value != values[0] for value in values)]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in values.items():
        result |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return result
