"""One picture that tells how a classifier did: curves, confusion, what it got right and where it was wrong."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hybridvit.data.decode import decode
from hybridvit.errors import DataError
from hybridvit.evaluation.logits import Result
from hybridvit.evaluation.metrics import softmax
from hybridvit.render.figures import INK, RIGHT, WRONG, draw_confusion, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 12
"""Pictures per row."""


def figure(result: Result, *, title: str, history: Sequence[Mapping[str, Any]] = ()) -> "Figure":
    """Curves and confusion, some right ones (one class after the other), and the mistakes.

    Raises: ConfigError without matplotlib, DataError when a picture is gone.
    """
    mistakes = result.mistakes()[: 2 * COLUMNS]
    num_rows, metrics = max(1, -(-len(mistakes) // COLUMNS)), result.metrics
    whole = new_figure(15, 7.6 + 1.65 * num_rows)
    parts: Any = whole.subfigures(3, 1, height_ratios=[4.6, 2, 1.65 * num_rows + 0.35])
    whole.suptitle(
        f"{plain(title, 90)}: {metrics.top1:.2f} % of {metrics.images} pictures right, "
        f"{metrics.images - metrics.correct} wrong",
        fontsize=15,
        fontweight="bold",
        color=INK,
    )
    left, right = parts[0].subplots(1, 2, width_ratios=[1.15, 1])
    _draw_training(left, history)
    draw_confusion(right, np.array(metrics.confusion), result.class_names)
    right.set_title("Confusion (rows: true class, columns: what the model said)")
    parts[1].suptitle("Some it got right", x=0.01, ha="left", color=RIGHT)
    _draw_pictures(parts[1], result, _samples(result), rows=1)
    heading = "Its mistakes, the most confident first" if len(mistakes) else "No mistakes"
    parts[2].suptitle(heading, x=0.01, ha="left", color=WRONG)
    _draw_pictures(parts[2], result, mistakes, rows=num_rows)
    return whole


def _samples(result: Result) -> np.ndarray:
    """Right ones, spread over the classes."""
    right = np.flatnonzero(result.logits.argmax(axis=1) == result.labels)
    by_class = [right[result.labels[right] == k] for k in range(len(result.class_names))]
    rounds = [indices[turn] for turn in range(COLUMNS) for indices in by_class if turn < len(indices)]
    return np.sort(np.array(rounds[:COLUMNS], dtype=np.int64))


def _draw_training(axes: "Axes", history: Sequence[Mapping[str, Any]]) -> None:
    losses = [(line["step"], line["loss"]) for line in history if line.get("loss") is not None]
    errors = [(line["step"], 100 - line["top1"]) for line in history if line.get("top1") is not None]
    if not losses and not errors:
        axes.axis("off")
        axes.text(0.5, 0.5, "no metrics.jsonl beside the checkpoint", ha="center", color=INK)
        return
    axes.set(xlabel="step", title="Training")
    if losses:
        axes.plot(*zip(*losses, strict=True), color=INK)
    axes.set_ylabel("training loss", color=INK)
    other = axes.twinx()
    if errors:
        other.plot(*zip(*errors, strict=True), color=WRONG, marker="o", markersize=4)
        other.set_yscale("symlog", linthresh=1)  # logarithmic, with a place for 0
        ticks = [0, 0.5, 1, 2, 5, 10, 20, 50, 100]
        other.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        other.set_ylim(0, 1.3 * max(1, *(error for _, error in errors)))
    other.set_ylabel("test error, %", color=WRONG)


def _draw_pictures(part: Any, result: Result, indices: np.ndarray, *, rows: int) -> None:
    grid = part.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, index, row in zip(grid, indices, softmax(result.logits[indices]), strict=False):
        path, label, found = result.paths[index], result.labels[index], row.argmax()
        if result.source is None:
            raise DataError(f"{path} cannot be shown: these answers came from a file, which holds no pictures.")
        try:
            picture = decode(result.source.read(result.numbers[index]), name=path)
        except OSError as error:
            raise DataError(f"{path} was there a moment ago, and cannot be read now: {error}") from error
        picture.thumbnail((160, 160))
        axes.imshow(picture)
        text = f"{plain(result.class_names[found], 16)}  {100 * row[found]:.0f} %"
        text += "" if found == label else f"\nis {plain(result.class_names[label], 16)}"
        axes.set_title(text, fontsize=10, color=RIGHT if found == label else WRONG)
