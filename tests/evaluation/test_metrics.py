"""evaluation/metrics.py against scikit-learn and against cases small enough to count by hand."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from hybridvit.errors import DataError
from hybridvit.evaluation.metrics import measure, softmax

NAMES = [f"class {k}" for k in range(12)]


@pytest.fixture
def random_case() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 12, size=501)
    logits = rng.normal(size=(501, 12)).astype(np.float32)
    logits[np.arange(501), labels] += 1.5
    return logits, labels


def test_accuracies_and_loss_equal_those_of_scikit_learn(random_case: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = random_case
    found = measure(logits, labels, NAMES)
    assert found.images == 501
    assert found.top1 == pytest.approx(100 * sklearn_metrics.accuracy_score(labels, logits.argmax(axis=1)), abs=1e-12)
    expected_top5 = sklearn_metrics.top_k_accuracy_score(labels, logits, k=5, labels=np.arange(12))
    assert found.top5 == pytest.approx(100 * expected_top5, abs=1e-12)
    assert found.loss == pytest.approx(
        sklearn_metrics.log_loss(labels, softmax(logits), labels=np.arange(12)), abs=1e-9
    )
    assert found.correct == sklearn_metrics.accuracy_score(labels, logits.argmax(axis=1), normalize=False)


def test_confusion_recall_and_precision_equal_those_of_scikit_learn(
    random_case: tuple[np.ndarray, np.ndarray],
) -> None:
    logits, labels = random_case
    predicted = logits.argmax(axis=1)
    found = measure(logits, labels, NAMES)
    assert np.array_equal(found.confusion, sklearn_metrics.confusion_matrix(labels, predicted, labels=np.arange(12)))
    precision, recall, _, images = sklearn_metrics.precision_recall_fscore_support(labels, predicted)
    assert [c.name for c in found.classes] == NAMES
    assert [c.images for c in found.classes] == images.tolist()
    assert [c.recall for c in found.classes] == pytest.approx(100 * recall, abs=1e-12)
    assert [c.precision for c in found.classes] == pytest.approx(100 * precision, abs=1e-12)


def test_equal_logits_count_once_and_as_argmax_decides() -> None:
    logits = np.zeros((7, 7))
    found = measure(logits, np.arange(7), NAMES[:7])
    assert found.correct == 1
    assert found.top5 == pytest.approx(100 * 5 / 7)


def test_a_class_without_pictures_has_no_recall_and_one_never_predicted_no_precision() -> None:
    logits = np.array([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]])
    a, b, c = measure(logits, np.array([0, 1]), ["a", "b", "c"]).classes
    assert (a.recall, a.precision) == (100.0, 50.0)
    assert (b.recall, b.precision) == (0.0, None)
    assert (c.images, c.recall, c.precision) == (0, None, None)


def test_top5_of_five_classes_is_left_out() -> None:
    assert measure(np.eye(5), np.arange(5), NAMES[:5]).top5 is None
    assert measure(np.eye(6), np.arange(6), NAMES[:6]).top5 == 100.0


def test_huge_logits_do_not_overflow() -> None:
    logits = np.array([[1e4, 0.0], [0.0, -1e4]], dtype=np.float32)
    assert measure(logits, np.array([0, 1]), ["a", "b"]).loss == pytest.approx(5000)
    assert np.isfinite(softmax(logits)).all()


def test_logits_that_are_not_finite_are_an_error_that_counts_them() -> None:
    logits = np.ones((4, 3))
    logits[2, 1] = np.nan
    with pytest.raises(DataError, match=r"1 of 4 pictures .* number 2"):
        measure(logits, np.zeros(4, dtype=int), ["a", "b", "c"])


@pytest.mark.parametrize(
    ("shape", "labels", "names", "message"),
    [
        ((0, 3), [], 3, "No picture"),
        ((2, 3), [0, 1], 4, "do not belong together"),
        ((2, 3), [0], 3, "do not belong together"),
        ((2, 3), [0, 3], 3, "run from 0 to 3"),
        ((2, 3), [-1, 0], 3, "run from -1 to 0"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    shape: tuple[int, int], labels: list[int], names: int, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        measure(np.ones(shape), np.array(labels, dtype=int), NAMES[:names])
