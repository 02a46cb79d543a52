"""One picture that tells how a model did: curves, confusion, what it got right and where it was wrong."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hybridvit.data.decode import decode
from hybridvit.data.opening import read_named
from hybridvit.errors import ConfigError, DataError
from hybridvit.evaluate.logits import Result
from hybridvit.evaluate.metrics import softmax
from hybridvit.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 12
"""Pictures per row."""
RIGHT, WRONG, INK = "#1a7f37", "#c1121f", "#33415c"


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl; none where there is no such file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def draw_report(path: str | Path, result: Result, *, title: str, history: Sequence[dict[str, Any]] = ()) -> None:
    """Write the report as a PNG: a row of figures, a row of samples (one class after the other), rows of mistakes.

    Raises: ConfigError when matplotlib is not installed, DataError when the file cannot be written or a picture is gone.
    """
    try:
        from matplotlib.figure import Figure  # an extra; the object interface needs no display
    except ImportError as error:
        raise ConfigError("The report is drawn with matplotlib: pip install 'hybridvit[demo]'") from error
    mistakes = result.mistakes()[: 2 * COLUMNS]
    num_rows = max(1, -(-len(mistakes) // COLUMNS))
    figure = Figure(figsize=(15, 7.6 + 1.65 * num_rows), dpi=100, layout="constrained")
    parts: Any = figure.subfigures(3, 1, height_ratios=[4.6, 2, 1.65 * num_rows + 0.35])
    metrics = result.metrics
    figure.suptitle(
        f"{title}: {metrics.top1:.2f} % of {metrics.images} pictures right, {metrics.images - metrics.correct} wrong",
        fontsize=15,
        fontweight="bold",
        color=INK,
    )
    left, right = parts[0].subplots(1, 2, width_ratios=[1.15, 1])
    _draw_curves(left, history)
    _draw_confusion(right, result)
    parts[1].suptitle("Some it got right", x=0.01, ha="left", color=RIGHT)
    _draw_pictures(parts[1], result, _samples(result), rows=1)
    heading = "Its mistakes, the most confident first" if len(mistakes) else "No mistakes"
    parts[2].suptitle(heading, x=0.01, ha="left", color=WRONG)
    _draw_pictures(parts[2], result, mistakes, rows=num_rows)
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}") from error


def _samples(result: Result) -> np.ndarray:
    """Right ones, spread over the classes."""
    right = np.flatnonzero(result.logits.argmax(axis=1) == result.labels)
    by_class = [right[result.labels[right] == k] for k in range(len(result.class_names))]
    rounds = [indices[turn] for turn in range(COLUMNS) for indices in by_class if turn < len(indices)]
    return np.sort(np.array(rounds[:COLUMNS], dtype=np.int64))


def _draw_curves(axes: "Axes", history: Sequence[dict[str, Any]]) -> None:
    losses = [(line["step"], line["loss"]) for line in history if line.get("loss") is not None]
    judged = [(line["step"], 100 - line["top1"]) for line in history if line.get("top1") is not None]
    if not losses and not judged:
        axes.axis("off")
        axes.text(0.5, 0.5, "no metrics.jsonl beside the checkpoint", ha="center", color=INK)
        return
    axes.set_xlabel("step")
    if losses:
        axes.plot(*zip(*losses, strict=True), color=INK)
    axes.set_ylabel("training loss", color=INK)
    errors = axes.twinx()
    if judged:
        errors.plot(*zip(*judged, strict=True), color=WRONG, marker="o", markersize=4)
        errors.set_yscale("symlog", linthresh=1)  # logarithmic, with a place for 0
        errors.set_yticks([0, 0.5, 1, 2, 5, 10, 20, 50, 100], ["0", "0.5", "1", "2", "5", "10", "20", "50", "100"])
        errors.set_ylim(0, 1.3 * max(1, *(error for _, error in judged)))
    errors.set_ylabel("test error, %", color=WRONG)
    axes.set_title("Training")


def _draw_confusion(axes: "Axes", result: Result) -> None:
    counts = np.array(result.metrics.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares**0.4, cmap="Blues", vmin=0, vmax=1)  # the root lifts single mistakes out of the white
    axes.set_title("Confusion (rows: true class, columns: what the model said)")
    if len(counts) > 20:
        return
    axes.set_xticks(range(len(counts)), result.class_names, rotation=90 if max(map(len, result.class_names)) > 3 else 0)
    axes.set_yticks(range(len(counts)), result.class_names)
    for i, j in zip(*np.nonzero(counts), strict=True):
        axes.text(j, i, counts[i, j], ha="center", va="center", fontsize=9, color="white" if i == j else WRONG)


def _draw_pictures(part: "Figure", result: Result, indices: np.ndarray, *, rows: int) -> None:
    probabilities = softmax(result.logits[indices]) if len(indices) else np.empty((0, 1))
    grid = part.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, index, row in zip(grid, indices, probabilities, strict=False):
        label, found = result.labels[index], row.argmax()
        path = result.paths[index]
        try:
            picture = decode(read_named(path), name=path)
        except OSError as error:
            raise DataError(f"{path} was there a moment ago, and cannot be read now: {error}") from error
        picture.thumbnail((160, 160))
        axes.imshow(picture)
        name, truth = result.class_names[found], result.class_names[label]
        text = f"{name}  {100 * row[found]:.0f} %" + ("" if found == label else f"\nis {truth}")
        axes.set_title(text, fontsize=10, color=RIGHT if found == label else WRONG)
