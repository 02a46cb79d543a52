"""What kind of mistakes a detector makes, after TIDE (Bolya et al., arXiv 2008.08115): counted, at one score.

Arrays: N detections, G objects, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import box_iou

SCORE = 0.3
"""From which on a detection counts here."""
FOREGROUND, BACKGROUND = 0.5, 0.1

KINDS = {
    "classification": "of an object of another class",
    "localisation": "of the right class, at IoU .1 to .5",
    "both": "of another class, at IoU .1 to .5",
    "duplicate": "of an object that a better one found",
    "background": "where nothing is",
    "missed": "objects that no detection is near",
}

Found = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]
"""Boxes, scores, labels of a picture."""
Truth = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]
"""Boxes, labels, crowds of a picture."""


@dataclass(frozen=True, kw_only=True)
class Errors:
    score: float
    correct: int
    counts: Mapping[str, int]
    """By kind, the keys of KINDS."""
    confusion: tuple[tuple[int, ...], ...]
    """Objects by class (row) and by the class of the best detection on them (column); in the last row detections on no object,
    in the last column objects without a detection."""

    def __str__(self) -> str:
        counted = ", ".join(f"{count} {kind}" for kind, count in self.counts.items())
        return f"at scores from {self.score:g}: {self.correct} right; errors: {counted}"


def find_errors(found: Sequence[Found], truths: Sequence[Truth], class_names: Sequence[str]) -> Errors:
    """Picture by picture, the best detection first. Detections within crowds are neither right nor wrong."""
    counts = dict.fromkeys(KINDS, 0)
    num_classes = len(class_names)
    confusion = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    correct = 0
    for (boxes, scores, labels), (true_boxes, true_labels, crowd) in zip(found, truths, strict=True):
        order = [int(i) for i in np.argsort(-scores, kind="stable") if scores[i] >= SCORE]
        objects, crowds = true_boxes[~crowd], true_boxes[crowd]
        own = true_labels[~crowd]
        iou_NG = _iou(boxes[order], objects)
        ignored_N = _share_within(boxes[order], crowds).max(axis=1, initial=0.0) >= FOREGROUND
        matched = np.zeros(len(objects), dtype=bool)
        near = np.zeros(len(objects), dtype=bool)
        confused = np.zeros(len(objects), dtype=bool)
        for row, (i, iou_G) in enumerate(zip(order, iou_NG, strict=True)):
            same = own == labels[i]
            kind = _kind(iou_G, same, matched)
            if kind == "correct":
                matched[_best(iou_G, same & ~matched)] = True
                correct += 1
            elif kind == "background" and ignored_N[row]:
                continue
            else:
                counts[kind] += 1
                if kind in ("classification", "localisation"):
                    near[_best(iou_G, ~same if kind == "classification" else same)] = True
            free = _best(iou_G, ~confused) if len(objects) else 0
            if len(objects) and not confused[free] and iou_G[free] >= FOREGROUND:
                confused[free] = True
                confusion[own[free], labels[i]] += 1
            elif not ignored_N[row]:
                confusion[num_classes, labels[i]] += 1
        counts["missed"] += int((~matched & ~near).sum())
        confusion[:-1, num_classes] += np.bincount(own[~confused], minlength=num_classes)
    return Errors(score=SCORE, correct=correct, counts=counts, confusion=tuple(map(tuple, confusion.tolist())))


def _kind(iou_G: NDArray[np.float64], same: NDArray[np.bool_], matched: NDArray[np.bool_]) -> str:
    def most(which: NDArray[np.bool_]) -> float:
        return float(iou_G[which].max(initial=0.0))

    if most(same & ~matched) >= FOREGROUND:
        return "correct"
    if most(same) >= FOREGROUND:
        return "duplicate"
    if most(~same) >= FOREGROUND:
        return "classification"
    if most(same) >= BACKGROUND:
        return "localisation"
    return "both" if most(~same) >= BACKGROUND else "background"


def _best(iou_G: NDArray[np.float64], which: NDArray[np.bool_]) -> int:
    return int(np.where(which, iou_G, -1.0).argmax())


def _iou(a_N4: NDArray[np.float64], b_G4: NDArray[np.float64]) -> NDArray[np.float64]:
    return box_iou(torch.from_numpy(a_N4.reshape(-1, 4)), torch.from_numpy(b_G4.reshape(-1, 4))).numpy()


def _share_within(a_N4: NDArray[np.float64], b_G4: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each box of `a`, the share that lies in each of `b`."""
    a_N4, b_G4 = a_N4.reshape(-1, 4), b_G4.reshape(-1, 4)
    low = np.maximum(a_N4[:, None, :2], b_G4[None, :, :2])
    high = np.minimum(a_N4[:, None, 2:], b_G4[None, :, 2:])
    area_N1 = (a_N4[:, 2:] - a_N4[:, :2]).prod(axis=1, keepdims=True)
    return (high - low).clip(min=0).prod(axis=2) / np.maximum(area_N1, 1e-12)
