"""evaluation/logits.py: what is written is what is read, and other files are refused."""

from pathlib import Path

import numpy as np
import pytest

from hybridvit.errors import DataError
from hybridvit.evaluation.logits import Result, load_logits, save_logits


@pytest.fixture
def result() -> Result:
    rng = np.random.default_rng(0)
    return Result(
        logits=rng.normal(size=(9, 3)).astype(np.float32),
        labels=np.arange(9) % 3,
        paths=tuple(f"größe/{i}.png" for i in range(9)),
        class_names=("Katze", "chat", "猫"),
        broken=("half.png",),
    )


def test_metrics_from_the_file_equal_the_metrics_before(tmp_path: Path, result: Result) -> None:
    save_logits(tmp_path / "new" / "logits.npz", result)
    again = load_logits(tmp_path / "new" / "logits.npz")
    assert again.metrics == result.metrics
    assert (again.paths, again.class_names, again.broken) == (result.paths, result.class_names, result.broken)
    assert np.array_equal(again.logits, result.logits)
    assert again.logits.dtype == np.float32
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["logits.npz"]


def test_plain_numpy_reads_the_file(tmp_path: Path, result: Result) -> None:
    save_logits(tmp_path / "logits.npz", result)
    with np.load(tmp_path / "logits.npz") as file:
        assert {name: file[name].shape for name in file.files} == {
            "logits": (9, 3),
            "labels": (9,),
            "paths": (9,),
            "class_names": (3,),
            "broken": (1,),
        }


def test_mistakes_come_with_the_most_confident_first() -> None:
    logits = np.array([[2.0, 0.0], [5.0, 0.0], [0.0, 1.0], [0.0, 9.0]])
    labels = np.array([1, 1, 1, 0])
    result = Result(logits=logits, labels=labels, paths=tuple("abcd"), class_names=("x", "y"))
    assert result.mistakes().tolist() == [3, 1, 0]


def test_another_suffix_is_refused(tmp_path: Path, result: Result) -> None:
    with pytest.raises(DataError, match=r"call it logits\.npz"):
        save_logits(tmp_path / "logits.csv", result)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path, result: Result) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        save_logits(tmp_path / "file" / "logits.npz", result)


@pytest.mark.parametrize("content", [b"", b"<!doctype html>", b"PK\x03\x04 cut off", b"\x93NUMPY"])
def test_a_damaged_or_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "logits.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"logits\.npz is not a logits file"):
        load_logits(tmp_path / "logits.npz")


def test_a_truncated_file_is_refused(tmp_path: Path, result: Result) -> None:
    path = tmp_path / "logits.npz"
    save_logits(path, result)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="damaged"):
        load_logits(path)


def test_a_file_with_other_arrays_says_what_is_missing(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", logits=np.eye(2), labels=np.arange(2))
    with pytest.raises(DataError, match=r"has no paths, class_names; it holds logits, labels"):
        load_logits(tmp_path / "other.npz")


def test_a_missing_file_says_which_command_writes_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not exist.*hybridvit eval"):
        load_logits(tmp_path / "none.npz")
