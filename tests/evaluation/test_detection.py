"""COCO's figures against pycocotools on boxes and masks, and the kinds of error on a picture made for them."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hybridvit.data.objects import Objects, encode
from hybridvit.data.scenes import DigitScenes
from hybridvit.errors import DataError
from hybridvit.evaluation.detection import COCO_FIGURES, PREDICTIONS, CocoMetric, Detections

NAMES = tuple("abcde")
SIDE = 200


def rectangles(boxes: np.ndarray) -> np.ndarray:
    masks = np.zeros((len(boxes), SIDE, SIDE), dtype=np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.round().astype(int), strict=True):
        mask[max(top, 0) : bottom, max(left, 0) : right] = 1
    return masks


def scene(draws: np.random.Generator, masks: bool) -> tuple[Detections, Objects]:
    """Objects of all three sizes, some crowds; detections near them, doubled, of wrong class, and of nothing."""
    count = int(draws.integers(0, 7))
    corner = draws.uniform(0, 100, (count, 2))
    boxes = np.concatenate((corner, corner + draws.uniform(5, 99, (count, 2))), axis=1)
    labels = draws.integers(0, 4, count)  # the fifth class has no objects
    crowd = draws.random(count) < 0.2
    near = np.repeat(boxes, 2, axis=0) + draws.normal(scale=3, size=(2 * count, 4))
    wild = np.concatenate((draws.uniform(0, 90, (3, 2)), draws.uniform(91, 190, (3, 2))), axis=1)
    found = np.concatenate((near, wild)).clip(0, SIDE)
    found_labels = np.concatenate((np.repeat(labels, 2), draws.integers(0, 5, 3)))
    wrong = draws.random(len(found)) < 0.2
    found_labels[wrong] = draws.integers(0, 5, wrong.sum())
    kept = (found[:, 2:] - found[:, :2]).min(axis=1) > 1
    found, found_labels = found[kept], found_labels[kept]
    scores = draws.random(len(found)).round(2)  # with ties
    order = np.argsort(-scores, kind="stable")
    found, found_labels, scores = found[order], found_labels[order], scores[order]
    said = Detections(
        size=(SIDE, SIDE),
        boxes_N4=found,
        scores_N=scores,
        labels_N=found_labels,
        outlines=encode(rectangles(found)) if masks else None,
    )
    truth = Objects(
        size=(SIDE, SIDE),
        boxes_N4=torch.from_numpy(boxes),
        labels_N=torch.from_numpy(labels),
        crowd_N=torch.from_numpy(crowd),
        areas_N=torch.from_numpy((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) * 0.7),
        outlines=encode(rectangles(boxes)) if masks else None,
    )
    return said, truth


def metric_of(scenes: list[tuple[Detections, Objects]], **kwargs: Any) -> CocoMetric:
    metric = CocoMetric(NAMES, **kwargs)
    metric.update([said for said, _ in scenes], [truth for _, truth in scenes], range(len(scenes)))
    return metric


def pycocotools_figures(scenes: list[tuple[Detections, Objects]], kind: str) -> list[float]:
    """From scratch: nothing of the metric's own way to COCO's form."""
    truth: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": k, "name": n} for k, n in enumerate(NAMES)],
    }
    found: list[dict[str, Any]] = []
    for image, (said, objects) in enumerate(scenes):
        truth["images"].append({"id": image, "height": SIDE, "width": SIDE})
        for i in range(len(objects)):
            left, top, right, bottom = objects.boxes_N4[i].tolist()
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": image,
                    "category_id": int(objects.labels_N[i]),
                    "bbox": [left, top, right - left, bottom - top],
                    "area": float(objects.areas_N[i]),
                    "iscrowd": int(objects.crowd_N[i]),
                    **({"segmentation": objects.outlines[i]} if objects.outlines else {}),
                }
            )
        for i, (left, top, right, bottom) in enumerate(said.boxes_N4.tolist()):
            entry: dict[str, Any] = {
                "image_id": image,
                "category_id": int(said.labels_N[i]),
                "score": float(said.scores_N[i]),
            }
            if kind == "bbox":
                entry["bbox"] = [left, top, right - left, bottom - top]
            else:
                assert said.outlines is not None
                entry["segmentation"] = said.outlines[i]
            found.append(entry)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools on numpy 2
@pytest.mark.parametrize("seed", range(3))
def test_the_twelve_figures_are_pycocotools_of_boxes_and_of_masks(seed: int) -> None:
    draws = np.random.default_rng(seed)
    scenes = [scene(draws, masks=True) for _ in range(25)]
    result = metric_of(scenes).compute()
    for kind, figures in (("bbox", result.boxes), ("segm", result.masks)):
        assert figures is not None
        found = [-1.0 if figures[name] is None else figures[name] / 100 for name in COCO_FIGURES]  # type: ignore[operator]
        assert found == pytest.approx(pycocotools_figures(scenes, kind), abs=1e-12)


def test_figures_hang_neither_on_order_nor_on_ranks_and_each_picture_counts_once() -> None:
    draws = np.random.default_rng(5)
    scenes = [scene(draws, masks=False) for _ in range(20)]
    whole = metric_of(scenes)
    shares = []
    for rank in range(3):
        share = CocoMetric(NAMES)
        mine = list(range(rank, 20, 3))[::-1]
        share.update([scenes[i][0] for i in mine], [scenes[i][1] for i in mine], mine)
        shares.append(share)
    shares[0].merge(shares[1:])
    assert shares[0].compute() == whole.compute()
    assert whole.compute().images == 20
    whole.merge(shares)
    assert whole.compute().images == 20


def test_per_class_figures_average_to_the_whole() -> None:
    draws = np.random.default_rng(6)
    result = metric_of([scene(draws, masks=True) for _ in range(30)]).compute()
    for name in ("ap", "ap50"):
        per_class = [getattr(one, name) for one in result.classes]
        assert per_class[-1] is None
        assert np.mean(per_class[:-1]) == pytest.approx(result.boxes[name])
    assert np.mean([one.mask_ap for one in result.classes[:-1]]) == pytest.approx(result.masks["ap"])  # type: ignore[index]
    assert [len(curve) for curve in result.precision_at_recall] == [101, 101, 101, 101, 0]
    assert np.mean(result.precision_at_recall[0]) == pytest.approx(result.classes[0].ap50)
    assert len(result.to_frame()) == 5
    assert "Kinds of error" in result._repr_html_()
    assert json.loads(json.dumps(result.to_dict()))["images"] == 30


def nothing() -> Detections:
    return Detections(
        size=(SIDE, SIDE), boxes_N4=np.zeros((0, 4)), scores_N=np.zeros(0), labels_N=np.zeros(0, dtype=np.int64)
    )


def test_nothing_found_is_zero_and_says_what_was_missed() -> None:
    truth = scene(np.random.default_rng(1), masks=False)[1]
    result = metric_of([(nothing(), truth)]).compute()
    assert result.boxes["ap"] == 0
    assert result.errors.counts["missed"] == result.objects > 0


def test_perfect_detections_of_scenes_have_100_percent() -> None:
    scenes = DigitScenes("test", count=8)
    metric = CocoMetric(scenes.class_names)
    for i in range(8):
        truth = scenes.target(i)
        said = Detections(
            size=truth.size,
            boxes_N4=truth.boxes_N4.numpy(),
            scores_N=np.ones(len(truth)),
            labels_N=truth.labels_N.numpy(),
            outlines=truth.outlines,
        )
        metric.update([said], [truth], [i])
    result = metric.compute()
    assert result.boxes["ap"] == result.masks["ap"] == pytest.approx(100)  # type: ignore[index]
    assert result.errors.correct == result.objects
    assert sum(result.errors.counts.values()) == 0


def test_kinds_of_error_on_a_picture_made_for_them() -> None:
    """Five objects; each detection below is wrong, or right, in its own way."""
    objects = [[10, 10, 50, 50], [100, 10, 140, 50], [10, 100, 50, 140], [100, 100, 140, 140], [150, 150, 190, 190]]
    truth = Objects(
        size=(SIDE, SIDE),
        boxes_N4=torch.tensor(objects, dtype=torch.float64),
        labels_N=torch.tensor([0, 1, 2, 3, 0]),
        crowd_N=torch.zeros(5, dtype=torch.bool),
        areas_N=torch.full((5,), 1600.0, dtype=torch.float64),
    )
    found = [
        ([10, 10, 50, 50], 0, 0.99),  # right
        ([11, 10, 50, 50], 0, 0.98),  # the same once more: duplicate
        ([100, 10, 140, 50], 2, 0.97),  # classification
        ([30, 100, 70, 140], 2, 0.96),  # localisation
        ([120, 100, 160, 140], 1, 0.95),  # both
        ([60, 60, 90, 90], 0, 0.94),  # background
        ([150, 150, 190, 190], 0, 0.2),  # right, but not sure enough: missed
    ]
    said = Detections(
        size=(SIDE, SIDE),
        boxes_N4=np.array([box for box, _, _ in found], dtype=np.float64),
        scores_N=np.array([score for *_, score in found]),
        labels_N=np.array([label for _, label, _ in found]),
    )
    errors = metric_of([(said, truth)]).compute().errors
    assert errors.correct == 1
    assert errors.counts == {
        "classification": 1,
        "localisation": 1,
        "both": 1,
        "duplicate": 1,
        "background": 1,
        "missed": 2,
    }
    confusion = np.array(errors.confusion)
    assert confusion[0, 0] == 1
    assert confusion[1, 2] == 1
    assert confusion[:5, 5].tolist() == [1, 0, 1, 1, 0]
    assert confusion[5].sum() == 4


def test_what_is_found_in_a_crowd_is_no_error() -> None:
    truth = Objects(
        size=(SIDE, SIDE),
        boxes_N4=torch.tensor([[0.0, 0, 100, 100], [150, 150, 180, 180]], dtype=torch.float64),
        labels_N=torch.tensor([0, 0]),
        crowd_N=torch.tensor([True, False]),
        areas_N=torch.tensor([10_000.0, 900.0], dtype=torch.float64),
    )
    said = Detections(
        size=(SIDE, SIDE),
        boxes_N4=np.array([[150.0, 150, 180, 180], [10, 10, 30, 30]]),
        scores_N=np.array([0.9, 0.8]),
        labels_N=np.array([0, 0]),
    )
    result = metric_of([(said, truth)]).compute()
    assert result.boxes["ap"] == pytest.approx(100)
    assert result.objects == 1
    assert sum(result.errors.counts.values()) == 0


def test_predictions_are_saved_in_cocos_form_with_their_pictures_names(tmp_path: Path) -> None:
    scenes = DigitScenes("test", count=2)
    truth = scenes.target(1)
    said = Detections(
        size=truth.size,
        boxes_N4=truth.boxes_N4.numpy(),
        scores_N=np.ones(len(truth)),
        labels_N=truth.labels_N.numpy(),
        outlines=truth.outlines,
    )
    metric = CocoMetric(scenes.class_names, keep=True)
    metric.update([said], [truth], [1])
    metric.save(tmp_path, scenes, broken=[])
    entry = json.loads((tmp_path / PREDICTIONS).read_text())[0]
    left, top, right, bottom = truth.boxes_N4[0].tolist()
    assert entry["file_name"] == "test/00001.png"
    assert entry["bbox"] == [left, top, right - left, bottom - top]
    assert entry["category_id"] == int(truth.labels_N[0])
    assert entry["segmentation"]["size"] == [64, 64]
    with pytest.MonkeyPatch.context() as patch:  # a name that is no UTF-8 is JSON that any program reads
        patch.setattr(scenes, "name", lambda _: "\udcff.png")
        metric.save(tmp_path, scenes, broken=[])
    assert json.loads((tmp_path / PREDICTIONS).read_text())[0]["file_name"] == "\\udcff.png"
    CocoMetric(scenes.class_names).save(tmp_path / "none", scenes, broken=[])
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("label", "score", "message"), [(5, 0.5, "Labels run from 5 to 5; there are 5 classes"), (0, np.nan, "not finite")]
)
def test_what_cannot_be_counted_is_refused(label: int, score: float, message: str) -> None:
    empty = Objects(
        size=(SIDE, SIDE),
        boxes_N4=torch.zeros(0, 4, dtype=torch.float64),
        labels_N=torch.zeros(0, dtype=torch.int64),
        crowd_N=torch.zeros(0, dtype=torch.bool),
        areas_N=torch.zeros(0, dtype=torch.float64),
    )
    said = Detections(
        size=(SIDE, SIDE), boxes_N4=np.ones((1, 4)), scores_N=np.array([score]), labels_N=np.array([label])
    )
    with pytest.raises(DataError, match=message):
        metric_of([(said, empty)]).compute()


def test_sizes_that_differ_are_refused() -> None:
    said, truth = scene(np.random.default_rng(1), masks=False)
    turned = Detections(**{**vars(said), "size": (SIDE, SIDE + 1)})
    with pytest.raises(DataError, match=r"detections of \(200, 201\) pixels, objects of \(200, 200\)"):
        metric_of([(turned, truth)])


def test_no_picture_is_no_figure() -> None:
    with pytest.raises(DataError, match="No picture was evaluated"):
        CocoMetric(NAMES).compute()
