"""evaluate/history.py and run_page.py: a run's folder, told and compared."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from hybridvit.data.readers.folder import read_folder
from hybridvit.errors import DataError
from hybridvit.evaluate.history import LOGITS, differences, read_run
from hybridvit.evaluate.logits import Result, save_logits
from hybridvit.evaluate.run_page import compare_page, comparison, run_page

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    def make(name: str = "run", lr: float = 0.1, top1: tuple[float, ...] = (40.0, 70.0, 70.0, 60.0)) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        recipe = {
            "about": {"title": f"About {name}"},
            "model": {"name": "cvt_nano"},
            "optimizer": {"lr": lr},
        }
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        lines = [{"step": 5, "loss": 2.0, "lr": lr, "grad_norm": 1.0}]
        lines += [
            {"step": 10 * k, "top1": value, "test_loss": 1 / k, "images": 18} for k, value in enumerate(top1, start=1)
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "timings.jsonl").write_text('{"step": 10, "images_per_second": 30.0}\n')
        return folder

    return make


def test_the_best_is_the_earliest_of_equals(make_run: MakeRun) -> None:
    run = read_run(make_run())
    assert run.best is not None
    assert run.best["step"] == 20
    assert run.speed == 30
    assert run.curve("loss") == [(5, 2.0)]
    assert run.result() is None


def test_a_page_has_curves_confusion_worst_pictures_recipe_and_environment(
    make_run: MakeRun, make_pictures: Callable[..., Path]
) -> None:
    folder = make_run()
    source = read_folder(make_pictures(test=3) / "test")
    labels = np.array(source.labels)
    logits = np.eye(3, dtype=np.float32)[(labels + (np.arange(9) % 3 == 0)) % 3] * 4
    paths = [source.name(i) for i in range(9)]
    save_logits(folder / LOGITS, Result(logits, labels, (*paths[:8], "moved/away.png"), source.class_names))
    html = run_page(read_run(folder), environment={"torch": "9.9"})
    for text in ("About run", "Training loss", "Learning rate", "Confusion", "Accuracy by class", "70.00 %", "9.9"):
        assert text in html
    assert html.count("data:image/jpeg") == 3
    assert "is a, found b" in html
    assert "lr: 0.1" in html


def test_a_run_without_answers_or_metrics_still_has_a_page(make_run: MakeRun) -> None:
    folder = make_run(top1=())
    (folder / "metrics.jsonl").write_text("")
    (folder / "timings.jsonl").unlink()
    html = run_page(read_run(folder), environment={})
    assert "Confusion" not in html
    assert comparison([read_run(folder)])[0]["best top-1 %"] is None


def test_runs_are_compared_by_figures_recipes_and_curves(make_run: MakeRun) -> None:
    runs = [read_run(make_run("slow", lr=0.1)), read_run(make_run("fast", lr=0.3, top1=(80.0,)))]
    assert differences(runs) == [("optimizer.lr", [0.1, 0.3])]
    assert [row["best top-1 %"] for row in comparison(runs)] == [70.0, 80.0]
    html = compare_page(runs)
    assert html.count("<polyline") == 12
    assert "slow" in html


def test_runs_of_the_same_name_are_told_by_their_paths(make_run: MakeRun) -> None:
    runs = [read_run(make_run("a/run")), read_run(make_run("b/run"))]
    assert [row["run"] for row in comparison(runs)] == [str(run.folder) for run in runs]


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not the folder of a run"):
        read_run(tmp_path)
