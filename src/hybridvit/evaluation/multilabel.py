"""Average precision of pictures with several classes each. numpy only; units are percent throughout."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from hybridvit.data.source import Source
from hybridvit.errors import DataError
from hybridvit.evaluation.table import to_frame, to_html


@dataclass(frozen=True, kw_only=True)
class LabelMetrics:
    """How one class fared."""

    name: str
    images: int
    """Pictures that have it."""
    ap: float | None
    """Average precision; None where no picture has it."""


@dataclass(frozen=True, kw_only=True)
class MultilabelMetrics:
    images: int
    mean_ap: float | None
    """Over the classes that some picture has."""
    loss: float
    """Mean binary cross-entropy over pictures and classes, in nats."""
    classes: tuple[LabelMetrics, ...]

    @property
    def figures(self) -> Mapping[str, float | None]:
        return {"map": self.mean_ap, "test_loss": self.loss, "images": self.images}

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_frame(self) -> Any:
        """A pandas.DataFrame with a row per class."""
        return to_frame([asdict(one) for one in self.classes])

    def __str__(self) -> str:
        mean = "-" if self.mean_ap is None else f"{self.mean_ap:.2f} %"
        return f"mAP  {mean}  ({self.images} pictures, {len(self.classes)} classes)\nloss  {self.loss:.4f}"

    def _repr_html_(self) -> str:
        return to_html(str(self), ["class", "pictures", "AP %"], [(c.name, c.images, c.ap) for c in self.classes])


class MeanAveragePrecision:
    """Average precision ranks all pictures, so that their logits are kept: 4 bytes per picture and class."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)
        self.logits: list[np.ndarray] = []
        self.targets: list[tuple[int, ...]] = []
        self.loss = Fraction()

    def update(
        self, predictions: Sequence[np.ndarray], targets: Sequence[tuple[int, ...]], indices: Sequence[int]
    ) -> None:
        for logits_K, target in zip(predictions, targets, strict=True):
            if logits_K.shape != (len(self.class_names),):
                raise DataError(f"{len(self.class_names)} classes, but logits of shape {logits_K.shape}.")
            if np.isfinite(logits_K).all():  # compute() refuses others
                x_K = logits_K.astype(np.float64)
                losses_K = np.logaddexp(0, x_K)
                losses_K[list(target)] -= x_K[list(target)]
                self.loss += Fraction(float(losses_K.mean()))
        self.logits += predictions
        self.targets += targets

    def merge(self, others: Sequence["MeanAveragePrecision"]) -> None:
        for other in others:
            self.logits += other.logits
            self.targets += other.targets
            self.loss += other.loss

    def compute(self) -> MultilabelMetrics:
        if not self.logits:
            raise DataError("No picture was evaluated.")
        scores_NK = np.stack(self.logits)
        bad = int((~np.isfinite(scores_NK).all(axis=1)).sum())
        if bad:
            raise DataError(
                f"{bad} of {len(scores_NK)} pictures have logits that are not finite: the weights are damaged."
            )
        has_NK = np.zeros(scores_NK.shape, dtype=bool)
        for row, target in zip(has_NK, self.targets, strict=True):
            row[list(target)] = True
        classes = tuple(
            LabelMetrics(name=name, images=int(has_NK[:, k].sum()), ap=average_precision(scores_NK[:, k], has_NK[:, k]))
            for k, name in enumerate(self.class_names)
        )
        known = [one.ap for one in classes if one.ap is not None]
        return MultilabelMetrics(
            images=len(scores_NK),
            mean_ap=sum(known) / len(known) if known else None,
            loss=float(self.loss / len(scores_NK)),
            classes=classes,
        )

    def save(self, folder: Path, source: Source, *, broken: Sequence[int]) -> None:
        """Nothing: the figures say all."""


def average_precision(scores_N: np.ndarray, has_N: np.ndarray) -> float | None:
    """The mean of the precisions at which each picture of the class is found, equal scores taken together. None without one.

    Source: scikit-learn's definition, average_precision_score: no interpolation.
    """
    if not has_N.any():
        return None
    order = np.argsort(-scores_N, kind="stable")
    scores_N, has_N = scores_N[order], has_N[order]
    last_of_equals = np.append(np.flatnonzero(np.diff(scores_N)), len(scores_N) - 1)
    found = np.cumsum(has_N)[last_of_equals]
    precision = found / (last_of_equals + 1)
    return 100 * float((np.diff(found, prepend=0) * precision).sum() / found[-1])
