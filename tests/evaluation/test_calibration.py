"""evaluation/calibration.py: confidence against the truth, with scikit-learn's curve as the oracle."""

import numpy as np
import pytest

from hybridvit.evaluation.calibration import calibration_error, reliability
from hybridvit.evaluation.metrics import softmax


def drawn(num: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is the true distribution of the labels."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(num, classes))
    probabilities = softmax(logits)
    labels = (probabilities.cumsum(axis=1) > rng.random((num, 1))).argmax(axis=1)
    return logits, labels


def test_a_model_that_knows_its_odds_has_almost_no_error() -> None:
    logits, labels = drawn(40_000, 6)
    assert calibration_error(logits, labels) < 1


def test_an_overconfident_model_is_off_by_its_overconfidence() -> None:
    logits, labels = drawn(5_000, 6)
    sure = 50 * logits
    accuracy = 100 * (logits.argmax(axis=1) == labels).mean()
    assert calibration_error(sure, labels) == pytest.approx(100 - accuracy, abs=1.5)


def test_always_sure_and_always_wrong_is_100_percent() -> None:
    logits = np.zeros((4, 3))
    logits[:, 0] = 100
    assert calibration_error(logits, np.array([1, 1, 2, 2])) == pytest.approx(100)
    assert calibration_error(logits, np.zeros(4, dtype=int)) == pytest.approx(0)


def test_bins_are_scikit_learns() -> None:
    calibration = pytest.importorskip("sklearn.calibration")
    logits, labels = drawn(3_000, 4, seed=1)
    confidence = softmax(logits).max(axis=1)
    right = logits.argmax(axis=1) == labels
    accuracy, mean_confidence = calibration.calibration_curve(right, confidence, n_bins=15)
    bins = reliability(logits, labels)
    np.testing.assert_allclose([b.accuracy for b in bins], 100 * accuracy)
    np.testing.assert_allclose([b.confidence for b in bins], 100 * mean_confidence)
    counts = np.histogram(confidence, bins=np.linspace(0, 1, 16))[0]
    assert [b.images for b in bins] == [n for n in counts if n]
    expected = (
        sum(n * abs(a - c) for n, a, c in zip(counts[counts > 0], accuracy, mean_confidence, strict=True)) / 3_000
    )
    assert calibration_error(logits, labels) == pytest.approx(100 * expected)


def test_one_picture_and_certainty_are_fine() -> None:
    assert calibration_error(np.array([[1000.0, 0.0]]), np.array([0])) == 0
    assert calibration_error(np.array([[0.0, 0.0]]), np.array([0])) == pytest.approx(50)
