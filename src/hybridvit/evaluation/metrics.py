"""The figures of classification, streamed and counted picture by picture. numpy only; units are percent throughout."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from hybridvit.data.source import Source
from hybridvit.errors import DataError
from hybridvit.evaluation.sections import class_section, confusion_section
from hybridvit.evaluation.table import to_frame
from hybridvit.render.figures import confusion_matrix
from hybridvit.render.page import fragment, tiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    """How one class fared. None stands where a ratio has no denominator."""

    name: str
    images: int
    recall: float | None
    """Of this class's pictures, the share found: its accuracy."""
    precision: float | None
    """Of the pictures given this class, the share that is right."""


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """All that one evaluation says."""

    images: int
    """Pictures that were seen, each once."""
    correct: int
    top1: float
    top5: float | None
    """None with five classes or fewer, where it would always be 100."""
    loss: float
    """Mean cross-entropy, in nats."""
    classes: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Pictures by true class (row) and predicted class (column)."""

    @property
    def figures(self) -> Mapping[str, float | None]:
        return {"top1": self.top1, "top5": self.top5, "test_loss": self.loss, "images": self.images}

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_frame(self) -> Any:
        """A pandas.DataFrame with a row per class."""
        return to_frame([asdict(one) for one in self.classes])

    def __str__(self) -> str:
        top5 = "" if self.top5 is None else f"top-5 {self.top5:.2f} %\n"
        return (
            f"top-1 {self.top1:.2f} %  ({self.correct} of {self.images} pictures)\n{top5}loss  {self.loss:.4f}\n"
            f"{len(self.classes)} classes"
        )

    def tiles(self) -> dict[str, object]:
        """The figures that matter most, in words."""
        return {
            "top-1": f"{self.top1:.2f} %",
            "top-5": None if self.top5 is None else f"{self.top5:.2f} %",
            "right": f"{self.correct} of {self.images}",
            "cross-entropy": f"{self.loss:.4f}",
        }

    def sections(self) -> list[Markup]:
        """For pages: confusion, and every class, the worst first."""
        classes = sorted(self.classes, key=lambda c: 101 if c.recall is None else c.recall)
        rows = [[one.name, one.images, one.recall, one.precision] for one in classes]
        return [
            confusion_section(np.array(self.confusion), [one.name for one in self.classes]),
            class_section(["class", "pictures", "recall %", "precision %"], rows),
        ]

    def plot(self) -> "Figure":
        """The confusion matrix. Raises: ConfigError without matplotlib."""
        return confusion_matrix(np.array(self.confusion), [one.name for one in self.classes])

    def _repr_html_(self) -> str:
        return fragment(tiles(self.tiles()), *self.sections())


class Accuracy:
    """The metric of classification, from logits.

    A label's rank counts the classes with a higher logit; among equals the earlier class goes first, as in argmax. Losses
    are added without rounding, so that no figure depends on the order of the pictures or on the number of ranks.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)
        self.confusion = np.zeros((len(class_names), len(class_names)), dtype=np.int64)
        self.in_top5 = 0
        self.loss = Fraction()
        self.not_finite: list[int] = []
        """Numbers of pictures whose logits are not finite."""

    def update(self, predictions: Sequence[np.ndarray], targets: Sequence[int], indices: Sequence[int]) -> None:
        """Raises: DataError when shapes disagree or a label is out of range."""
        if not len(targets):
            return
        logits_NK, labels_N = np.stack(predictions), np.asarray(targets)
        num_classes = len(self.class_names)
        if logits_NK.ndim != 2 or labels_N.shape != logits_NK.shape[:1] or logits_NK.shape[1] != num_classes:
            raise DataError(
                f"Logits {logits_NK.shape}, labels {labels_N.shape} and {num_classes} class names do not belong together; "
                "expected (N, K), (N,) and K."
            )
        if labels_N.min() < 0 or labels_N.max() >= num_classes:
            raise DataError(
                f"Labels run from {labels_N.min()} to {labels_N.max()}; the logits have {num_classes} classes."
            )
        finite = np.isfinite(logits_NK).all(axis=1)
        self.not_finite += np.asarray(indices)[~finite].tolist()
        logits_NK, labels_N = logits_NK[finite].astype(np.float64), labels_N[finite]

        own_N1 = np.take_along_axis(logits_NK, labels_N[:, None], axis=1)
        earlier_NK = np.arange(num_classes)[None, :] < labels_N[:, None]
        rank_N = ((logits_NK > own_N1) | ((logits_NK == own_N1) & earlier_NK)).sum(axis=1)
        self.in_top5 += int((rank_N < 5).sum())
        top_N1 = logits_NK.max(axis=1, keepdims=True)
        losses_N = top_N1[:, 0] + np.log(np.exp(logits_NK - top_N1).sum(axis=1)) - own_N1[:, 0]
        self.loss += sum(map(Fraction, losses_N.tolist()))
        np.add.at(self.confusion, (labels_N, logits_NK.argmax(axis=1)), 1)

    def merge(self, others: Sequence["Accuracy"]) -> None:
        for other in others:
            self.confusion += other.confusion
            self.in_top5 += other.in_top5
            self.loss += other.loss
            self.not_finite += other.not_finite

    def compute(self) -> Metrics:
        images, correct = int(self.confusion.sum()), int(np.trace(self.confusion))
        if self.not_finite:
            raise DataError(
                f"{len(self.not_finite)} of {images + len(self.not_finite)} pictures have logits that are not finite (the "
                f"first is number {min(self.not_finite)}): the weights are damaged, or half precision overflowed."
            )
        if not images:
            raise DataError("No picture was evaluated.")
        return Metrics(
            images=images,
            correct=correct,
            top1=100 * (correct / images),
            top5=100 * (self.in_top5 / images) if len(self.class_names) > 5 else None,
            loss=float(self.loss / images),
            classes=tuple(
                ClassMetrics(
                    name=name,
                    images=int(self.confusion[k].sum()),
                    recall=_percent(self.confusion[k, k], self.confusion[k].sum()),
                    precision=_percent(self.confusion[k, k], self.confusion[:, k].sum()),
                )
                for k, name in enumerate(self.class_names)
            ),
            confusion=tuple(tuple(row) for row in self.confusion.tolist()),
        )

    def save(self, folder: Path, source: Source, *, broken: Sequence[int]) -> None:
        """Nothing: no prediction was kept."""


def measure(logits: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> Metrics:
    """Compute every metric from logits.

    Shape: logits (N, K), labels (N,) in 0 ... K - 1, class_names K.
    Raises: DataError when there is no picture, shapes disagree, a label is out of range or a logit is not finite.
    """
    if len(logits) != len(labels):
        raise DataError(f"{len(logits)} logits and {len(labels)} labels do not belong together.")
    accuracy = Accuracy(class_names)
    accuracy.update(logits, labels, range(len(labels)))  # type: ignore[arg-type]
    return accuracy.compute()


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities in float64. Shape: (N, K) -> same."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def most_probable(probabilities: np.ndarray, k: int) -> list[int]:
    """Numbers of the k largest, the largest first, the earlier first among equals. Shape: (K,)."""
    return np.argsort(-probabilities, kind="stable")[:k].tolist()


def ranked(probabilities: np.ndarray, class_names: Sequence[str], k: int) -> list[dict[str, Any]]:
    """The k most probable classes, as rows of predictions hold them."""
    best = most_probable(probabilities, k)
    return [{"class": class_names[index], "probability": float(probabilities[index])} for index in best]


def _percent(part: int, whole: int) -> float | None:
    return 100 * float(part) / float(whole) if whole else None
