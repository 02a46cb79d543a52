"""Figures of segmentation against scikit-learn's and torchmetrics', and boundaries against erosion."""

import pickle

import numpy as np
import pytest
import torch

from hybridvit.errors import DataError
from hybridvit.evaluation.segmentation import Confusion, boundary

NAMES = tuple("abcdef")


def masks(count: int = 4, *, classes: tuple[int, ...] = (0, 1, 2, 4)) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Answers and truths of several sizes: class 3 is nowhere, class 5 is said but never true, a tenth is of no class."""
    rng = np.random.default_rng(0)
    said, truths = [], []
    for i in range(count):
        size = (20 + 7 * i, 31 + 3 * i)
        truth = np.repeat(np.repeat(rng.choice(classes, (size[0] // 4 + 1, size[1] // 4 + 1)), 4, 0), 4, 1)
        truth = truth[: size[0], : size[1]].astype(np.uint8)
        answer = np.where(rng.random(size) < 0.7, truth, rng.choice((*classes, 5), size)).astype(np.uint8)
        truth[rng.random(size) < 0.1] = 255
        said.append(answer)
        truths.append(truth)
    return said, truths


def measured(said: list[np.ndarray], truths: list[np.ndarray]) -> Confusion:
    metric = Confusion(NAMES)
    metric.update(said, truths, range(len(said)))
    return metric


def test_iou_is_scikit_learns_with_ignored_pixels_and_absent_classes() -> None:
    from sklearn.metrics import accuracy_score, jaccard_score, recall_score

    said, truths = masks()
    truth = np.concatenate([t.ravel() for t in truths])
    answer = np.concatenate([a.ravel() for a in said])[truth != 255]
    truth = truth[truth != 255]
    result = measured(said, truths).compute()
    expected = 100 * jaccard_score(truth, answer, labels=[0, 1, 2, 4, 5], average=None)
    assert [one.iou for one in result.classes if one.iou is not None] == pytest.approx(expected, rel=1e-12)
    assert result.classes[3].iou is None
    assert result.classes[5].iou == 0.0
    assert result.miou == pytest.approx(expected.mean(), rel=1e-12)
    assert result.accuracy == pytest.approx(100 * accuracy_score(truth, answer), rel=1e-12)
    recalls = recall_score(truth, answer, labels=[0, 1, 2, 4], average=None)
    assert result.mean_accuracy == pytest.approx(100 * recalls.mean(), rel=1e-12)


def test_iou_is_torchmetrics() -> None:
    from torchmetrics.classification import MulticlassJaccardIndex

    said, truths = masks()
    theirs = MulticlassJaccardIndex(num_classes=6, ignore_index=255, average="none")
    for answer, truth in zip(said, truths, strict=True):
        theirs.update(torch.from_numpy(answer).long()[None], torch.from_numpy(truth).long()[None])
    ious = [one.iou or 0.0 for one in measured(said, truths).compute().classes]
    assert ious == pytest.approx((100 * theirs.compute()).tolist(), rel=1e-6)


def test_ranks_are_merged_to_the_same_figures_bit_for_bit() -> None:
    said, truths = masks(5)
    whole = measured(said, truths)
    ranks = []
    for rank in range(2):
        metric = Confusion(NAMES)
        metric.update(said[rank::2], truths[rank::2], range(rank, 5, 2))
        ranks.append(pickle.loads(pickle.dumps(metric)))
    ranks[0].merge(ranks[1:])
    assert ranks[0].compute() == whole.compute()


def eroded(mask: np.ndarray, reach: int) -> np.ndarray:
    """As Cheng et al.: a border of nothing, then 3 x 3 erosion, `reach` times."""
    padded = np.pad(mask, 1)
    for _ in range(reach):
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(padded, 1), (3, 3))
        padded = windows.all(axis=(2, 3))
    return padded[1:-1, 1:-1]


@pytest.mark.parametrize("size", [(40, 60), (9, 7), (120, 90), (1, 5)])
def test_the_boundary_of_all_classes_is_what_erosion_leaves_out_of_each(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    blocks = rng.integers(0, 3, (size[0] // 9 + 1, size[1] // 9 + 1))
    mask = np.repeat(np.repeat(blocks, 9, 0), 9, 1)[: size[0], : size[1]]
    reach = max(1, round(0.02 * np.hypot(*size)))
    expected = np.zeros(size, dtype=bool)
    for k in range(3):
        expected |= (mask == k) & ~eroded(mask == k, reach)
    assert np.array_equal(boundary(mask), expected)


def test_boundary_iou_is_that_of_the_eroded_outlines() -> None:
    said, truths = masks()
    counts = np.zeros((2, 6))
    for answer, truth in zip(said, truths, strict=True):
        answer = np.where(truth == 255, 255, answer)
        reach = max(1, round(0.02 * np.hypot(*truth.shape)))
        for k in range(6):
            near = [(m == k) & ~eroded(m == k, reach) for m in (answer, truth)]
            counts[:, k] += (near[0] & near[1]).sum(), (near[0] | near[1]).sum()
    found = [one.boundary_iou for one in measured(said, truths).compute().classes]
    assert found[3] is None
    kept = counts[1] > 0
    assert [iou for iou in found if iou is not None] == pytest.approx(
        100 * counts[0, kept] / counts[1, kept], rel=1e-12
    )


def test_every_labelled_pixel_counts_once() -> None:
    said, truths = masks()
    result = measured(said, truths).compute()
    assert result.pixels == sum(int((t != 255).sum()) for t in truths) == int(np.sum(result.confusion))
    assert result.images == 4


def test_the_worst_pictures_are_named() -> None:
    truth = np.repeat(np.arange(2, dtype=np.uint8), 8).reshape(4, 4)
    result = measured([truth, 1 - truth, truth], [truth] * 3).compute()
    assert result.worst[0] == (1, 0.0)
    assert {index for index, _ in result.worst} == {0, 1, 2}


def test_a_result_reads_well_and_goes_to_a_frame() -> None:
    result = measured(*masks()).compute()
    assert str(result).startswith(f"mIoU {result.miou:.2f} %")
    assert result.to_frame()["iou"].isna().sum() == 1
    assert "boundary IoU %" in result._repr_html_()
    assert next(iter(result.figures)) == "miou"


@pytest.mark.parametrize(
    ("said", "truth", "message"),
    [
        (np.zeros((4, 5)), np.zeros((4, 4)), r"the answer has \(4, 5\) pixels, the truth \(4, 4\)"),
        (np.full((4, 4), 6), np.zeros((4, 4)), "the answer has classes 6 to 6, expected 0 to 5"),
        (np.zeros((4, 4)), np.full((4, 4), 9), "the truth has classes 9 to 9, expected 0 to 5"),
    ],
)
def test_what_cannot_be_compared_is_refused(said: np.ndarray, truth: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        measured([said], [truth])


def test_answers_that_are_not_finite_are_refused_when_all_is_counted() -> None:
    metric = measured([np.full((4, 4), 255), np.zeros((4, 4))], [np.zeros((4, 4))] * 2)
    with pytest.raises(DataError, match="1 of 2 pictures have logits that are not finite"):
        metric.compute()


def test_an_evaluation_without_a_labelled_pixel_is_refused() -> None:
    with pytest.raises(DataError, match="No labelled pixel was evaluated"):
        measured([np.zeros((4, 4))], [np.full((4, 4), 255)]).compute()
