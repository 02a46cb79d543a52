"""COCO's figures of detection, by faster-coco-eval, and what they hide: classes, curves, confusions, kinds of error.

Units are percent throughout. Arrays: N detections, G objects, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridvit.data.objects import Objects, Rle, coco_annotations, coco_masks
from hybridvit.data.source import Source
from hybridvit.errors import DataError
from hybridvit.evaluation.detection_errors import KINDS, Errors, find_errors
from hybridvit.evaluation.sections import class_section, confusion_section
from hybridvit.evaluation.table import to_frame
from hybridvit.files import replacing
from hybridvit.output import to_json
from hybridvit.render.figures import line_chart
from hybridvit.render.page import charts, fragment, note, section, table, tiles

COCO_FIGURES = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"),
)
"""In the order of COCO's twelve."""
PREDICTIONS = "predictions.coco.json"
MOST_CURVES = 20
"""Classes, in one plot."""
NOTHING = "nothing"


@dataclass(frozen=True, kw_only=True)
class Detections:
    """What was found on one picture, in its own pixels, best first."""

    size: tuple[int, int]
    boxes_N4: NDArray[np.float64]
    """Left, top, right, bottom."""
    scores_N: NDArray[np.float64]
    labels_N: NDArray[np.int64]
    outlines: tuple[Rle, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class DetectedClass:
    """How one class fared. None stands where it has no objects."""

    name: str
    objects: int
    ap: float | None
    ap50: float | None
    recall: float | None
    """Of its objects, the share found at IoU .5, by 100 detections a picture."""
    mask_ap: float | None = None


@dataclass(frozen=True, kw_only=True)
class DetectionResult:
    """All that one evaluation says."""

    images: int
    objects: int
    boxes: Mapping[str, float | None]
    """COCO's twelve; None where no object is of that size."""
    masks: Mapping[str, float | None] | None
    """The same by outlines, where the model has them and the data set, too."""
    classes: tuple[DetectedClass, ...]
    precision_at_recall: tuple[tuple[float, ...], ...]
    """Of each class at IoU .5, at recall 0, 1 ... 100 %; empty without objects."""
    errors: Errors

    @property
    def figures(self) -> Mapping[str, float | None]:
        masks = {f"mask_{name}": value for name, value in (self.masks or {}).items()}
        return {**self.boxes, **masks, "images": self.images}

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_frame(self) -> Any:
        """A pandas.DataFrame with a row per class."""
        return to_frame([asdict(one) for one in self.classes])

    def __str__(self) -> str:
        lines = [f"{_line('box', self.boxes)}  ({self.images} pictures, {self.objects} objects)"]
        lines += [_line("mask", self.masks)] if self.masks else []
        return "\n".join([*lines, str(self.errors)])

    def _repr_html_(self) -> str:
        figures = {name: "-" if value is None else f"{value:.2f}" for name, value in self.figures.items()}
        curves = {
            one.name: list(enumerate(curve))
            for one, curve in zip(self.classes, self.precision_at_recall, strict=True)
            if curve
        }
        kinds = [[kind, self.errors.counts[kind], words] for kind, words in KINDS.items()]
        return fragment(
            tiles({"box AP": figures["ap"], "AP50": figures["ap50"], "AP75": figures["ap75"], "pictures": self.images}),
            section(
                "COCO's figures",
                table(["figure", "%"], [[name, value] for name, value in figures.items() if name != "images"]),
            ),
            class_section(
                ["class", "objects", "AP", "AP50", "recall %", "mask AP"],
                [list(asdict(one).values()) for one in self.classes],
            ),
            section(
                "Precision by recall",
                charts(partial(line_chart, "precision %, IoU .5", curves, x_label="recall %"))
                if len(curves) <= MOST_CURVES
                else note(f"{len(curves)} classes; their curves are in the JSON."),
            ),
            section(
                "Kinds of error",
                table(["kind", "detections", "what it is"], kinds),
                note=f"At scores from {self.errors.score:g}; {self.errors.correct} detections are right.",
            ),
            confusion_section(np.array(self.errors.confusion), [*(one.name for one in self.classes), NOTHING]),
        )


def _line(kind: str, figures: Mapping[str, float | None]) -> str:
    words = ("AP", "AP50", "AP75", "small", "medium", "large")
    shown = [
        f"{word} {'-' if figures[name] is None else format(figures[name], '.2f')}"
        for word, name in zip(words, COCO_FIGURES, strict=False)
    ]
    return f"{kind} {'  '.join(shown)}"


class CocoMetric:
    """Keeps boxes and outlines of every picture, with its number: figures depend on no order, nor on the number of ranks."""

    def __init__(self, class_names: Sequence[str], *, keep: bool = False) -> None:
        self.class_names, self.keep = tuple(class_names), keep
        self.pictures: dict[int, tuple[Detections, Objects]] = {}

    def update(self, predictions: Sequence[Detections], targets: Sequence[Objects], indices: Sequence[int]) -> None:
        """Raises: DataError when a label is none of the classes, or sizes differ."""
        for said, truth, index in zip(predictions, targets, indices, strict=True):
            if said.size != truth.size:
                raise DataError(f"Picture {index}: detections of {said.size} pixels, objects of {truth.size}.")
            labels = np.concatenate((said.labels_N, truth.labels_N.numpy()))
            if len(labels) and not 0 <= labels.min() <= labels.max() < len(self.class_names):
                raise DataError(
                    f"Labels run from {labels.min()} to {labels.max()}; there are {len(self.class_names)} classes."
                )
            self.pictures[index] = said, truth

    def merge(self, others: Sequence["CocoMetric"]) -> None:
        for other in others:
            self.pictures |= other.pictures

    def compute(self) -> DetectionResult:
        if not self.pictures:
            raise DataError("No picture was evaluated.")
        wrong = [i for i, (said, _) in self.pictures.items() if not np.isfinite(said.scores_N).all()]
        if wrong:
            raise DataError(
                f"{len(wrong)} of {len(self.pictures)} pictures have scores that are not finite (the first is number "
                f"{min(wrong)}): the weights are damaged, or half precision overflowed."
            )
        box_figures, precision, recall = self._evaluate("bbox")
        mask_figures = mask_precision = None
        if all(said.outlines is not None and truth.outlines is not None for said, truth in self.pictures.values()):
            mask_figures, mask_precision, _ = self._evaluate("segm")
        objects_K = self._objects_by_class()
        classes = tuple(
            DetectedClass(
                name=name,
                objects=int(objects_K[k]),
                ap=_mean(precision[:, :, k, 0, -1]),
                ap50=_mean(precision[0, :, k, 0, -1]),
                recall=_mean(recall[0, k, 0, -1]),
                mask_ap=None if mask_precision is None else _mean(mask_precision[:, :, k, 0, -1]),
            )
            for k, name in enumerate(self.class_names)
        )
        ordered = [self.pictures[index] for index in sorted(self.pictures)]
        return DetectionResult(
            images=len(ordered),
            objects=int(objects_K.sum()),
            boxes=box_figures,
            masks=mask_figures,
            classes=classes,
            precision_at_recall=tuple(
                tuple((100 * precision[0, :, k, 0, -1]).tolist()) if objects_K[k] else () for k in range(len(objects_K))
            ),
            errors=find_errors(
                [(said.boxes_N4, said.scores_N, said.labels_N) for said, _ in ordered],
                [(t.boxes_N4.numpy(), t.labels_N.numpy(), t.crowd_N.numpy()) for _, t in ordered],
                self.class_names,
            ),
        )

    def save(self, folder: Path, source: Source, *, broken: Sequence[int]) -> DetectionResult | None:
        """predictions.coco.json, in COCO's format of results; file_name says which picture. Raises: DataError."""
        if not self.keep:
            return None
        with replacing(folder / PREDICTIONS) as temporary:
            found = [{"file_name": source.name(entry["image_id"]), **entry} for entry in self.found()]
            temporary.write_text(to_json(found, indent=None), encoding="utf-8")
        return self.compute()

    def found(self) -> list[dict[str, Any]]:
        """Every detection as COCO's results have it; pictures and categories by their numbers, from 0."""
        return [
            entry
            for index, (said, _) in sorted(self.pictures.items())
            for entry in coco_results(said, image_id=index, numbers=range(len(self.class_names)))
        ]

    def _objects_by_class(self) -> NDArray[np.int64]:
        labels = [truth.labels_N[~truth.crowd_N].numpy() for _, truth in self.pictures.values()]
        return np.bincount(np.concatenate(labels), minlength=len(self.class_names))

    def _evaluate(self, kind: str) -> tuple[dict[str, float | None], NDArray[np.float64], NDArray[np.float64]]:
        """COCO's twelve, precision (IoUs, recalls, K, sizes, counts) and recall (IoUs, K, sizes, counts)."""
        coco_masks()  # says what is missing
        from faster_coco_eval import COCO
        from faster_coco_eval.core.faster_eval_api import COCOeval_faster

        truth = COCO(self._truth())
        # Without its box, a mask's own area says whether it is small.
        found = self.found() if kind == "bbox" else [{**entry, "bbox": []} for entry in self.found()]
        evaluation = COCOeval_faster(truth, truth.loadRes(found), kind)
        evaluation.run()
        stats = [None if value < 0 else 100 * float(value) for value in evaluation.stats[: len(COCO_FIGURES)]]
        shape = evaluation.eval["counts"]
        return (
            dict(zip(COCO_FIGURES, stats, strict=True)),
            np.asarray(evaluation.eval["precision"]).reshape(shape),
            np.asarray(evaluation.eval["recall"]).reshape(shape[:1] + shape[2:]),
        )

    def _truth(self) -> dict[str, Any]:
        """The objects as a COCO file, numbered anew: an id of 0 counts for nothing there."""
        annotations: list[dict[str, Any]] = []
        for index, (_, truth) in sorted(self.pictures.items()):
            annotations += coco_annotations(truth, image_id=index, first_id=len(annotations) + 1)
        return {
            "images": [
                {"id": index, "height": truth.size[0], "width": truth.size[1]}
                for index, (_, truth) in sorted(self.pictures.items())
            ],
            "annotations": annotations,
            "categories": [{"id": k, "name": name} for k, name in enumerate(self.class_names)],
        }


def coco_results(said: Detections, *, image_id: int, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """numbers: the category id of each class."""
    entries = []
    for i, (left, top, right, bottom) in enumerate(said.boxes_N4.tolist()):
        entry: dict[str, Any] = {
            "image_id": image_id,
            "category_id": numbers[int(said.labels_N[i])],
            "bbox": [left, top, right - left, bottom - top],
            "score": float(said.scores_N[i]),
        }
        if said.outlines is not None:
            entry["segmentation"] = said.outlines[i]
        entries.append(entry)
    return entries


def _mean(values: NDArray[np.float64]) -> float | None:
    values = values[values > -1]
    return 100 * float(values.mean()) if values.size else None
