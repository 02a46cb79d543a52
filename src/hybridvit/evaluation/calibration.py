"""How far a model's confidence can be trusted.

Confidence is the largest probability. A calibrated model is right in 80 % of the pictures it is 80 % sure of.
Source: Guo et al., arXiv 1706.04599, "On Calibration of Modern Neural Networks": bins of equal width, 15 of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from markupsafe import Markup

from hybridvit.evaluation.metrics import softmax
from hybridvit.render.figures import line_chart
from hybridvit.render.page import charts, section

BINS = 15


@dataclass(frozen=True)
class Bin:
    """Pictures whose confidence lies in (low, high]; all values but images in percent."""

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


def reliability(logits: np.ndarray, labels: np.ndarray, *, bins: int = BINS) -> list[Bin]:
    """Confidence and accuracy by confidence; empty bins are left out. Shape: logits (N, K), labels (N,)."""
    probabilities = softmax(logits)
    confidence = probabilities.max(axis=1)
    right = logits.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return [
        Bin(
            100 * b / bins,
            100 * (b + 1) / bins,
            int(inside.sum()),
            100 * float(confidence[inside].mean()),
            100 * float(right[inside].mean()),
        )
        for b in range(bins)
        if (inside := place == b).any()
    ]


def calibration_error(logits: np.ndarray, labels: np.ndarray, *, bins: int = BINS) -> float:
    """Expected calibration error in percent: the mean distance of accuracy and confidence, weighted by pictures."""
    found = reliability(logits, labels, bins=bins)
    return sum(b.images * abs(b.accuracy - b.confidence) for b in found) / len(labels)


def calibration_section(bins: Sequence[Bin]) -> Markup:
    """Accuracy and pictures by confidence, for a page."""
    diagonal = [(bins[0].confidence, bins[0].confidence), (100.0, 100.0)]
    accuracy = {"the model": [(b.confidence, b.accuracy) for b in bins], "calibrated": diagonal}
    counts = {"pictures": [(b.confidence, float(b.images)) for b in bins]}
    return section(
        "Can its confidence be trusted?",
        charts(
            partial(line_chart, "Right, in %, by confidence", accuracy, x_label="confidence, %"),
            partial(line_chart, "Pictures by confidence", counts, x_label="confidence, %"),
        ),
        note="A calibrated model is right in 80 % of the pictures that it is 80 % sure of. Above the line it is too modest, "
        "below it too sure.",
    )
