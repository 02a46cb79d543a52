"""Results in words: everything an evaluation says, for people."""

from collections.abc import Mapping

from hybridvit.data.source import Counts
from hybridvit.evaluation.imagenet import RealAccuracy
from hybridvit.evaluation.logits import Result
from hybridvit.output import Table

MOST_CLASSES = 20
"""Beyond, only the most frequent confusions are listed."""


def describe(
    result: Result, about: Mapping[str, object], *, real: RealAccuracy | None = None, counts: Counts | None = None
) -> list[object]:
    """Figures, a table of the classes, and their confusion. `about`: what stands above the figures, by name."""
    metrics = result.metrics
    names = [c.name for c in metrics.classes]
    figures: dict[str, object] = {
        **about,
        **({"found": counts} if counts else {}),
        "pictures": metrics.images,
        "top-1": f"{metrics.top1:.2f} %  ({metrics.correct} of {metrics.images})",
        **({"top-5": f"{metrics.top5:.2f} %"} if metrics.top5 is not None else {}),
        **({"ReaL": f"{real.top1:.2f} %  (of {real.images})"} if real else {}),
        "loss": f"{metrics.loss:.4f}",
        "ECE": f"{result.calibration_error:.2f} %",
    }
    width = max(map(len, figures))
    percent = [[None if p is None else f"{p:.2f}" for p in (c.recall, c.precision)] for c in metrics.classes]
    rows = [[c.name, c.images, *both] for c, both in zip(metrics.classes, percent, strict=True)]
    blocks: list[object] = [
        "\n".join(f"{name:{width}}  {value}" for name, value in figures.items()),
        "",
        Table(["class", "pictures", "recall %", "precision %"], rows),
        "",
    ]
    if len(names) <= MOST_CLASSES:
        title = "Confusion matrix: a row is a true class, a column what the model said."
        counted = [[name, *row] for name, row in zip(names, metrics.confusion, strict=True)]
        blocks.append(Table(["true \\ found", *names], counted, title))
    else:
        pairs = [(n, i, j) for i, row in enumerate(metrics.confusion) for j, n in enumerate(row) if n and i != j]
        pairs.sort(key=lambda pair: -pair[0])
        title = f"The most frequent of {len(pairs)} confusions (the whole matrix: --json)."
        frequent = [[n, names[i], names[j]] for n, i, j in pairs[:20]]
        blocks.append(Table(["pictures", "true class", "found as"], frequent, title))
    if result.broken:
        said = f"\n{len(result.broken)} pictures could not be read and are in no figure:"
        blocks.append("\n  ".join([said, *result.broken]))
    return blocks
