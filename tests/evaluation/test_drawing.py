"""evaluation/drawing.py: results are drawn in the extreme cases too, and its errors are ours."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybridvit.data.readers.folder import read_folder
from hybridvit.errors import ConfigError, DataError
from hybridvit.evaluation.drawing import figure
from hybridvit.evaluation.logits import Result
from hybridvit.render.figures import save_png


@pytest.fixture
def result(make_pictures: Callable[..., Path]) -> Result:
    source = read_folder(make_pictures(test=2) / "test")
    labels = np.repeat(np.arange(3), 2)
    return Result(
        logits=np.eye(3, dtype=np.float32)[labels],
        labels=labels,
        paths=tuple(source.name(number) for number in range(6)),
        class_names=("a", "b", "long name"),
        source=source,
        numbers=tuple(range(6)),
    )


def test_a_model_without_mistakes_and_without_history_is_drawn(tmp_path: Path, result: Result) -> None:
    save_png(tmp_path / "report.png", figure(result, title="perfect"))
    with Image.open(tmp_path / "report.png") as picture:
        assert picture.size[0] == 1500


def test_mistakes_make_the_picture_longer(tmp_path: Path, result: Result) -> None:
    save_png(tmp_path / "right.png", figure(result, title="right"))
    many = Result(
        logits=np.repeat(-result.logits, 5, axis=0),
        labels=np.repeat(result.labels, 5),
        paths=tuple(path for path in result.paths for _ in range(5)),
        class_names=result.class_names,
        source=result.source,
        numbers=tuple(number for number in result.numbers for _ in range(5)),
    )
    history = [{"step": 1, "loss": 2.0}, {"step": 2, "top1": 0.0}]
    save_png(tmp_path / "wrong.png", figure(many, title="wrong", history=history))
    with Image.open(tmp_path / "right.png") as right, Image.open(tmp_path / "wrong.png") as wrong:
        assert wrong.height > right.height


def test_without_matplotlib_the_message_says_what_to_install(
    tmp_path: Path, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"hybridvit\[viz\]"):
        figure(result, title="none")


def test_a_picture_that_vanished_and_a_folder_that_cannot_be_written_are_errors(tmp_path: Path, result: Result) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        save_png(tmp_path / "file" / "report.png", figure(result, title="nowhere"))
    Path(result.paths[0]).unlink()
    with pytest.raises(DataError, match="cannot be read now"):
        figure(result, title="gone")


@pytest.mark.parametrize("classes", [1, 2, 40, 1000])
def test_few_and_many_classes_and_pictures_that_are_gone_make_a_fragment(classes: int) -> None:
    labels = np.arange(4) % classes
    logits = np.zeros((4, classes), dtype=np.float32)
    logits[:, -1] = 9
    names = tuple(f"class {k}" for k in range(classes))
    html = Result(logits, labels, tuple("wxyz"), names, ("broken.png",))._repr_html_()
    assert html.count("data:image/jpeg") == (labels != classes - 1).sum()
    assert "<svg" in html
    assert "1, in no figure" in html
    assert ("1000 classes" in html) == (classes == 1000)


def test_results_show_their_confusion_matrix_and_a_row_per_class(result: Result) -> None:
    assert result.plot().axes[0].get_images()[0].get_array().shape == (3, 3, 4)
    assert result.figures["top1"] == 100
    assert list(result.to_frame()["name"]) == list(result.class_names)
    assert result.to_dict()["calibration_error"] == result.calibration_error
    assert "100.00 %" in result.metrics._repr_html_()
