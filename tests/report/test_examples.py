"""report/examples.py: pictures as the tasks draw them, whatever the task."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from hybridvit.config import Preprocess
from hybridvit.data.readers.folder import read_folder
from hybridvit.evaluation.logits import Result
from hybridvit.models import catalog
from hybridvit.report.examples import examples, telling
from hybridvit.tasks import find_task

PREPROCESS = Preprocess(image_size=(32, 32), crop_pct=1.0)


def test_truth_and_answer_are_drawn_and_a_broken_picture_is_left_out(make_pictures: Callable[..., Path]) -> None:
    folder = make_pictures(test=2, classes=("<b>", "c")) / "test"
    source = read_folder(folder)
    (folder / "c" / "001.png").write_bytes(b"no picture")
    torch.manual_seed(0)
    model = catalog.create("cvt_nano", num_classes=2).train()
    html = examples(model, find_task("classification"), source, PREPROCESS, numbers=range(4), title="Some")
    assert html.count("<img") == 2 * 3
    assert "&lt;b&gt;" in html
    assert "<b>" not in html
    assert all(module.training for module in model.modules())


def test_the_worst_are_shown_where_the_result_names_them_and_else_a_spread_of_all() -> None:
    result: Any = SimpleNamespace(worst=((7, 0.1), (3, 0.2)))
    source: Any = range(100)
    assert telling(result, source, count=1) == ("Worst pictures", [7])
    assert telling(SimpleNamespace(worst=()), source, count=4) == ("Some pictures", [0, 25, 50, 75])  # type: ignore[arg-type]
    assert telling(SimpleNamespace(), range(2), count=4)[1] == [0, 1]  # type: ignore[arg-type]


def test_logits_show_their_mistakes_themselves() -> None:
    result = Result(np.eye(2, dtype=np.float32), np.array([1, 1]), ("a", "b"), ("x", "y"))
    assert "Worst pictures" in result._repr_html_()
    assert telling(result, range(2)) == ("", [])  # type: ignore[arg-type]
