"""The figures of semantic segmentation, streamed: every labelled pixel counts once, whatever picture and rank it comes from.

Units are percent throughout. Arrays: H rows, W columns, K classes.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hybridvit.data.decode import decode
from hybridvit.data.masks import ignore_value
from hybridvit.data.source import Source
from hybridvit.errors import DataError
from hybridvit.evaluation.table import to_frame, to_html
from hybridvit.files import replacing
from hybridvit.render.masks import difference, overlay, sheet, with_legend

WORST, DRAWN = "worst.png", 8
BOUNDARY = 0.02
"""Width of a boundary, as a share of the picture's diagonal. Source: Cheng et al., arXiv 2103.16562."""


@dataclass(frozen=True, kw_only=True)
class SegmentedClass:
    """How one class fared. None stands where a ratio has no denominator."""

    name: str
    pixels: int
    iou: float | None
    """Pixels that are this class and are said to be, of those that are or are said to be: None where there are none."""
    boundary_iou: float | None
    """The same of the pixels near the class's outlines."""
    recall: float | None
    precision: float | None


@dataclass(frozen=True, kw_only=True)
class SegmentationResult:
    """All that one evaluation says."""

    images: int
    pixels: int
    """Labelled ones."""
    miou: float
    """The mean over the classes that occur in truth or answers."""
    boundary_iou: float
    accuracy: float
    """Of the labelled pixels, the share that is right."""
    mean_accuracy: float
    """The mean over the classes that occur of the share of their pixels that is found."""
    classes: tuple[SegmentedClass, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Pixels by true class (row) and predicted class (column)."""
    worst: tuple[tuple[int, float], ...]
    """Numbers of pictures of lowest mIoU, and that, worst first."""

    @property
    def figures(self) -> Mapping[str, float | None]:
        return {
            "miou": self.miou,
            "boundary_iou": self.boundary_iou,
            "accuracy": self.accuracy,
            "mean_accuracy": self.mean_accuracy,
            "images": self.images,
        }

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_frame(self) -> Any:
        """A pandas.DataFrame with a row per class."""
        return to_frame([asdict(one) for one in self.classes])

    def __str__(self) -> str:
        return (
            f"mIoU {self.miou:.2f} %  (boundary {self.boundary_iou:.2f} %)\n"
            f"accuracy {self.accuracy:.2f} % of {self.pixels} pixels, {self.mean_accuracy:.2f} % mean over classes\n"
            f"{self.images} pictures, {len(self.classes)} classes"
        )

    def _repr_html_(self) -> str:
        rows = [(one.name, one.pixels, one.iou, one.boundary_iou, one.recall, one.precision) for one in self.classes]
        return to_html(str(self), ["class", "pixels", "IoU %", "boundary IoU %", "recall %", "precision %"], rows)


class Confusion:
    """The metric of segmentation, from masks of numbers of classes.

    All counts are whole numbers: no figure depends on the order of the pictures or on the number of ranks.

    Args:
        keep: the answers for the worst pictures, too, for `save`.
    """

    def __init__(self, class_names: Sequence[str], *, keep: bool = False, num_worst: int = 20) -> None:
        self.class_names, self.ignore, self.num_worst = tuple(class_names), ignore_value(len(class_names)), num_worst
        self.keep = keep
        count = len(class_names)
        self.confusion = np.zeros((count, count), dtype=np.int64)
        self.boundaries = np.zeros((3, count), dtype=np.int64)
        """Per class the pixels in both boundaries, in the truth's, in the answer's."""
        self.images = 0
        self.not_finite: list[int] = []
        """Numbers of pictures with logits that are not finite."""
        self.worst: list[tuple[float, int, bytes]] = []
        """mIoU and number of a picture, and the answer, packed, if it is kept."""

    def update(self, predictions: Sequence[Any], targets: Sequence[Any], indices: Sequence[int]) -> None:
        """Masks (H, W) of the same size; an answer without a class in some pixel had logits that are not finite.

        Raises: DataError where sizes differ or a number is no class.
        """
        for said, truth, index in zip(predictions, targets, indices, strict=True):
            said_HW, truth_HW = np.asarray(said).astype(np.int64), np.asarray(truth).astype(np.int64)
            if said_HW.shape != truth_HW.shape:
                raise DataError(f"Picture {index}: the answer has {said_HW.shape} pixels, the truth {truth_HW.shape}.")
            if (said_HW == self.ignore).any():
                self.not_finite.append(index)
                continue
            kept_HW = truth_HW != self.ignore
            confusion = self._count(said_HW[kept_HW], truth_HW[kept_HW], index)
            self.confusion += confusion
            self.images += 1
            self._count_boundaries(np.where(kept_HW, said_HW, self.ignore), truth_HW)
            if confusion.any():
                packed = zlib.compress(said_HW.astype(np.int32).tobytes(), 1) if self.keep else b""
                self.worst = sorted([*self.worst, (float(np.nanmean(_ious(confusion))), index, packed)])[
                    : self.num_worst
                ]

    def _count(self, said: np.ndarray, truth: np.ndarray, index: int) -> np.ndarray:
        count = len(self.class_names)
        for values, what in ((said, "answer"), (truth, "truth")):
            if values.size and not 0 <= values.min() <= values.max() < count:
                raise DataError(
                    f"Picture {index}: the {what} has classes {values.min()} to {values.max()}, expected 0 to {count - 1}."
                )
        return np.bincount(truth * count + said, minlength=count * count).reshape(count, count)

    def _count_boundaries(self, said_HW: np.ndarray, truth_HW: np.ndarray) -> None:
        near_said_HW, near_truth_HW = boundary(said_HW), boundary(truth_HW)
        for row, chosen_HW in enumerate(
            (near_said_HW & near_truth_HW & (said_HW == truth_HW), near_truth_HW, near_said_HW)
        ):
            values = truth_HW[chosen_HW] if row < 2 else said_HW[chosen_HW]
            values = values[values != self.ignore]
            self.boundaries[row] += np.bincount(values, minlength=len(self.class_names))

    def merge(self, others: Sequence["Confusion"]) -> None:
        for other in others:
            self.confusion += other.confusion
            self.boundaries += other.boundaries
            self.images += other.images
            self.not_finite += other.not_finite
            self.worst = sorted([*self.worst, *other.worst])[: self.num_worst]

    def compute(self) -> SegmentationResult:
        if self.not_finite:
            raise DataError(
                f"{len(self.not_finite)} of {self.images + len(self.not_finite)} pictures have logits that are not finite (the "
                f"first is number {min(self.not_finite)}): the weights are damaged, or half precision overflowed."
            )
        pixels = int(self.confusion.sum())
        if not pixels:
            raise DataError("No labelled pixel was evaluated.")
        right, true, said = self.confusion.diagonal(), self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        both, near_truth, near_said = self.boundaries
        ious, near_ious = _ious(self.confusion), _ratio(both, near_truth + near_said - both)
        recalls, precisions = _ratio(right, true), _ratio(right, said)
        return SegmentationResult(
            images=self.images,
            pixels=pixels,
            miou=float(np.nanmean(ious)),
            boundary_iou=float(np.nanmean(near_ious)),
            accuracy=100 * (int(right.sum()) / pixels),
            mean_accuracy=float(np.nanmean(recalls)),
            classes=tuple(
                SegmentedClass(
                    name=name,
                    pixels=int(true[k]),
                    iou=_or_none(ious[k]),
                    boundary_iou=_or_none(near_ious[k]),
                    recall=_or_none(recalls[k]),
                    precision=_or_none(precisions[k]),
                )
                for k, name in enumerate(self.class_names)
            ),
            confusion=tuple(tuple(row) for row in self.confusion.tolist()),
            worst=tuple((index, miou) for miou, index, _ in self.worst),
        )

    def save(self, folder: Path, source: Source, *, broken: Sequence[int]) -> SegmentationResult | None:
        """worst.png: the worst pictures, each with the truth, the answer and the difference. Raises: DataError."""
        rows = []
        for _, index, packed in self.worst[:DRAWN] if self.keep else ():
            picture = decode(source.read(index), name=source.name(index))
            truth_HW = np.asarray(source.target(index))
            said_HW = np.frombuffer(zlib.decompress(packed), dtype=np.int32).reshape(truth_HW.shape)
            rows.append(
                [
                    with_legend(picture, [(Path(source.name(index)).name, (255, 255, 255))]),
                    overlay(picture, truth_HW, self.class_names),
                    overlay(picture, said_HW, self.class_names),
                    difference(said_HW, truth_HW, ignore=self.ignore),
                ]
            )
        if not rows:
            return None
        try:
            with replacing(folder / WORST) as temporary:
                sheet(rows).save(temporary, format="PNG")
        except OSError as error:
            raise DataError(f"{folder / WORST} cannot be written: {error}") from error
        return self.compute()


def boundary(mask_HW: np.ndarray) -> np.ndarray:
    """Pixels within BOUNDARY of the diagonal from a pixel of another value, or from the picture's border, in squares.

    For every class at once what eroding its mask leaves out (Cheng et al. erode by 3 x 3, as often as the boundary is wide).
    Shape: (H, W) -> same, bool.
    """
    height, width = mask_HW.shape
    reach = max(1, round(BOUNDARY * float(np.hypot(height, width))))
    # A square of pixels is of one value where none of the steps between its neighbours changes the value: count those steps.
    down, across = mask_HW[1:] != mask_HW[:-1], mask_HW[:, 1:] != mask_HW[:, :-1]
    near_HW = _steps_in(down, reach, steps_down=True) + _steps_in(across, reach, steps_down=False) > 0
    near_HW[:reach], near_HW[-reach:], near_HW[:, :reach], near_HW[:, -reach:] = True, True, True, True
    return near_HW


def _steps_in(steps: np.ndarray, reach: int, *, steps_down: bool) -> np.ndarray:
    """Of each pixel, the steps within the square around it, by a table of sums."""
    rows, columns = steps.shape
    height, width = (rows + 1, columns) if steps_down else (rows, columns + 1)
    sums = np.zeros((rows + 1, columns + 1), dtype=np.int32)  # two steps a pixel at the most
    steps.cumsum(axis=0, dtype=np.int32).cumsum(axis=1, out=sums[1:, 1:])
    top, bottom = _ends(height, reach, rows)
    left, right = _ends(width, reach, columns)
    return sums[bottom][:, right] - sums[top][:, right] - sums[bottom][:, left] + sums[top][:, left]


def _ends(length: int, reach: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    places = np.arange(length)
    last = np.minimum(places + reach, length - 1)
    return np.maximum(places - reach, 0), np.minimum(last if steps < length else last + 1, steps)


def _ious(confusion: np.ndarray) -> np.ndarray:
    right = confusion.diagonal()
    return _ratio(right, confusion.sum(axis=0) + confusion.sum(axis=1) - right)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """In percent; nan where the whole is 0."""
    return np.divide(100.0 * part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
