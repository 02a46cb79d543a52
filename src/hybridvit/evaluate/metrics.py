"""Accuracy from logits, counted picture by picture. numpy only; units are percent throughout."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hybridvit.errors import DataError


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

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(logits: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> Metrics:
    """Compute every metric from logits.

    A label's rank counts the classes with a higher logit; among equals the earlier class goes first, as in argmax.

    Shape: logits (N, K), labels (N,) in 0 ... K - 1, class_names K.
    Raises: DataError when there is no picture, shapes disagree, a label is out of range or a logit is not finite.
    """
    _check(logits, labels, class_names)
    num_images, num_classes = logits.shape
    logits = logits.astype(np.float64)
    rows = np.arange(num_images)
    own = logits[rows, labels][:, None]
    earlier = np.arange(num_classes)[None, :] < labels[:, None]
    rank = ((logits > own) | ((logits == own) & earlier)).sum(axis=1)

    top = logits.max(axis=1, keepdims=True)
    log_total = top[:, 0] + np.log(np.exp(logits - top).sum(axis=1))

    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(confusion, (labels, logits.argmax(axis=1)), 1)
    return Metrics(
        images=num_images,
        correct=int((rank == 0).sum()),
        top1=100 * float((rank == 0).mean()),
        top5=100 * float((rank < 5).mean()) if num_classes > 5 else None,
        loss=float((log_total - own[:, 0]).mean()),
        classes=tuple(
            ClassMetrics(
                name=name,
                images=int(confusion[k].sum()),
                recall=_percent(confusion[k, k], confusion[k].sum()),
                precision=_percent(confusion[k, k], confusion[:, k].sum()),
            )
            for k, name in enumerate(class_names)
        ),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities in float64. Shape: (N, K) -> same."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _percent(part: int, whole: int) -> float | None:
    return 100 * float(part) / float(whole) if whole else None


def _check(logits: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> None:
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or len(class_names) != logits.shape[1]:
        raise DataError(
            f"Logits {logits.shape}, labels {labels.shape} and {len(class_names)} class names do not belong together; "
            "expected (N, K), (N,) and K."
        )
    if not len(labels):
        raise DataError("No picture was evaluated.")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise DataError(f"Labels run from {labels.min()} to {labels.max()}; the logits have {logits.shape[1]} classes.")
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(bad):
        raise DataError(
            f"{len(bad)} of {len(logits)} pictures have logits that are not finite (the first is number {bad[0]}): "
            "the weights are damaged, or half precision overflowed."
        )
