"""training/sweep.py: grids of runs."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hybridvit.cli.main import main
from hybridvit.data.opening import open_splits
from hybridvit.data.source import Splits
from hybridvit.errors import ConfigError
from hybridvit.training import sweep as sweep_module
from hybridvit.training.sweep import ABLATIONS, load_sweep, run_sweep
from hybridvit.training.trainer import Trainer

MakePictures = Callable[..., Path]
CPU = torch.device("cpu")
GRID = """
about: {title: small, source: here, command: none, cost: seconds, status: a test}
recipe: digits
set: [global_batch=12, schedule.epochs=2, schedule.warmup_epochs=0]
rows:
  - {name: Plain, published: 55.5}
  - {name: "No skipping, lr=9e9", set: [optimizer.lr=9e9, optimizer.clip_norm=null, optimizer.name=sgd, optimizer.skip_limit=0]}
  - {name: SGD, set: [optimizer.name=sgd]}
"""


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(GRID)
    return path


@pytest.mark.parametrize("name", sorted(path.stem for path in ABLATIONS.glob("*.yaml")))
def test_every_sweep_that_comes_with_the_package_is_valid(name: str) -> None:
    assert load_sweep(name).rows


def test_a_sweep_prints_and_saves_its_table_and_notes_failures(
    grid: Path, make_pictures: MakePictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sweep", str(grid), "--data", str(make_pictures()), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(arguments) == 0
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    assert [row["row"] for row in table] == ["Plain", "No skipping, lr=9e9", "SGD"]
    assert table[0]["published"] == 55.5
    assert table[0]["top1"] > 0
    assert table[1]["top1"] is None
    assert "not finite" in table[1]["note"]
    assert "Plain" in capsys.readouterr().out


def test_the_table_keeps_what_was_seen_taken_and_passed_over_of_both_parts(
    grid: Path, make_pictures: MakePictures, tmp_path: Path
) -> None:
    data = make_pictures()
    (data / "train" / "a" / "notes.txt").touch()
    next(run_sweep(load_sweep(grid), lambda _: open_splits(data), out=tmp_path / "out", device=CPU))
    (row,) = json.loads((tmp_path / "out" / "table.json").read_text())
    train = row["counts"]["train"]
    assert train["passed_over"] == {"no picture (.txt)": 1}
    assert train["seen"] == train["taken"] + 1


def test_finished_rows_are_skipped_and_an_interrupted_one_goes_on(
    grid: Path, make_pictures: MakePictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, splits = load_sweep(grid), open_splits(make_pictures())
    steps: list[tuple[str, int]] = []
    real_fit = sweep_module.fit

    def fit(run: Trainer) -> object:
        def stepped(step: int, _: int) -> None:
            steps.append((run.out.name, step))
            if (run.out.name, step) == ("03-sgd", 2) and interrupt:
                signal.raise_signal(signal.SIGTERM)

        run.reporter.stepped = stepped  # type: ignore[method-assign]
        return real_fit(run)

    monkeypatch.setattr(sweep_module, "fit", fit)
    interrupt = True
    assert [o.row for o in run_sweep(sweep, lambda _: splits, out=tmp_path / "out", device=CPU)] == [
        "Plain",
        "No skipping, lr=9e9",
    ]
    interrupt = False
    steps.clear()
    outcomes = list(run_sweep(sweep, lambda _: splits, out=tmp_path / "out", device=CPU))
    assert [o.row for o in outcomes] == ["Plain", "No skipping, lr=9e9", "SGD"]
    assert [step for step in steps if step[0] != "02-no-skipping-lr-9e9"] == [
        ("03-sgd", 4),
        ("03-sgd", 5),
        ("03-sgd", 6),
    ]


def test_every_row_gets_the_pictures_that_its_recipe_holds_out(
    grid: Path, make_pictures: MakePictures, tmp_path: Path
) -> None:
    grid.write_text(GRID.replace("rows:", "rows:\n  - {name: Held out, set: [data.val_split=0.25]}"))
    folder = make_pictures() / "train"
    asked: list[float] = []

    def open_data(val_split: float) -> Splits:
        asked.append(val_split)
        return open_splits(folder, val_split=val_split or 0.5)

    outcomes = run_sweep(load_sweep(grid), open_data, out=tmp_path / "out", device=CPU)
    assert [next(outcomes).row, next(outcomes).row] == ["Held out", "Plain"]
    assert asked == [0.25, 0.0]


def test_a_mistake_in_a_row_is_found_before_anything_is_trained(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(GRID.replace("optimizer.name=sgd]}", "optimizer.nme=sgd]}"))
    with pytest.raises(
        ConfigError, match=r"grid\.yaml, row SGD: --set optimizer\.nme=sgd.*nearest known is optimizer\.name"
    ):
        load_sweep(path)


def test_two_rows_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(GRID.replace("name: SGD", "name: Plain"))
    with pytest.raises(ConfigError, match="twice: Plain"):
        load_sweep(path)


def test_an_unknown_sweep_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="the nearest sweep is flyegle_sgd"):
        load_sweep("flyegle_sdg")
