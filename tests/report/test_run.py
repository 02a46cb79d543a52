"""report/history.py and run.py: a run's folder, told and compared."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from hybridvit.data.readers.folder import read_folder
from hybridvit.errors import DataError
from hybridvit.evaluation.logits import Result
from hybridvit.report.history import differences, read_history, read_run
from hybridvit.report.run import Comparison, comparison, run_page

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
    assert run.last["step"] == 40
    assert run.curves == ["loss", "lr", "grad_norm", "top1", "test_loss", "images_per_second"]


def test_a_page_has_curves_confusion_worst_pictures_recipe_and_environment(
    make_run: MakeRun, make_pictures: Callable[..., Path]
) -> None:
    folder = make_run()
    source = read_folder(make_pictures(test=3) / "test")
    labels = np.array(source.labels)
    logits = np.eye(3, dtype=np.float32)[(labels + (np.arange(9) % 3 == 0)) % 3] * 4
    paths = tuple(source.name(i) for i in range(9))
    Path(paths[3]).unlink()  # moved away meanwhile
    result = Result(logits, labels, paths, source.class_names, source=source, numbers=tuple(range(9)))
    html = run_page(read_run(folder), answers=result._repr_html_(), environment={"torch": "9.9"})
    for text in (
        "About run",
        "Training loss",
        "Learning rate",
        "Confusion",
        "Accuracy by class",
        "<b>70.00 %</b>",
        "9.9",
    ):
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
    html = Comparison(runs).page()
    assert html.count("<svg") == 6
    assert "slow" in html


def test_runs_of_the_same_name_are_told_by_their_paths(make_run: MakeRun) -> None:
    runs = [read_run(make_run("a/run")), read_run(make_run("b/run"))]
    assert [row["run"] for row in comparison(runs)] == [str(run.folder) for run in runs]


def test_what_is_no_figure_is_in_no_curve_and_is_never_the_best(make_run: MakeRun) -> None:
    folder = make_run()
    lines = (
        '{"step": 1, "top1": NaN, "note": "x"}\n{"step": 2, "top1": 5.0}\n{"step": 3, "top1": null, "lr": Infinity}\n'
    )
    (folder / "metrics.jsonl").write_text(lines)
    run = read_run(folder)
    assert run.best == run.last == {"step": 2, "top1": 5.0}
    assert run.curves == ["top1", "images_per_second"]
    assert "Top-1" in run_page(run, environment={})


@pytest.mark.parametrize("text", ["[]", "model: 5", "model: {}", "a: [", ""])
def test_a_recipe_that_is_none_is_refused(make_run: MakeRun, text: str) -> None:
    folder = make_run()
    (folder / "recipe.yaml").write_text(text)
    with pytest.raises(DataError, match="is not the folder of a run"):
        read_run(folder)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not the folder of a run"):
        read_run(tmp_path)


def test_another_task_has_its_own_figure_and_curves(make_run: MakeRun) -> None:
    folder = make_run()
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "task": "segmentation"}))
    lines = [{"step": k, "epoch": k, "miou": value, "odd <b>": 0.5} for k, value in enumerate((10.0, None, 40.0))]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = read_run(folder)
    assert run.best == lines[2]
    html = run_page(run, environment={})
    assert "<b>40.00 %</b><span>best mIoU</span>" in html
    assert "odd &lt;b&gt;" in html
    both = comparison([run, read_run(make_run("other"))])
    assert both[0].keys() == both[1].keys()
    assert [row["best mIoU %"] for row in both] == [40.0, None]
    assert [row["best top-1 %"] for row in both] == [None, 70.0]


def test_a_class_called_script_stays_a_name_on_a_runs_page(make_run: MakeRun) -> None:
    name = "<script>alert(1)</script>"
    result = Result(np.eye(2, dtype=np.float32)[[0, 0]], np.array([0, 1]), (name, name), (name, "b"))
    html = run_page(read_run(make_run()), answers=result._repr_html_(), environment={name: name})
    assert "<script" not in html
    assert html.count("&lt;script&gt;") > 5


def test_a_history_that_is_damaged_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st')
    with pytest.raises(DataError, match=r"metrics.jsonl is not what `hybridvit train` writes"):
        read_history(tmp_path / "metrics.jsonl")
    assert read_history(tmp_path / "none.jsonl") == []
