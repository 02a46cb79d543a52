"""Pictures of several classes: lists, average precision against scikit-learn, the loss against timm, a run from end to end."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score
from timm.loss import BinaryCrossEntropy

from hybridvit.cli.main import main
from hybridvit.config import load_recipe
from hybridvit.data.multilabel import open_multilabel_splits, open_multilabel_test
from hybridvit.errors import DataError
from hybridvit.evaluation.multilabel import MeanAveragePrecision, average_precision
from hybridvit.report.file import write_report
from hybridvit.tasks import find_task
from hybridvit.tasks.multilabel import several_hot
from hybridvit.training.loop import fit, prepare
from hybridvit.training.sweep import sweep
from hybridvit.weights.load import load, read_checkpoint

NAMES = ("blue", "green", "red")
CPU = torch.device("cpu")
SMALL = ("global_batch=8", "precision=float32", "model.name=cvt_nano", "preprocess.image_size=32", "run.workers=0")
SHORT = ("augment.auto_augment=null", "augment.crop_scale=[1, 1]", "optimizer.layer_decay=null", "ema.decay=0")


def write_data(folder: Path, *, train: int = 24, test: int = 9) -> Path:
    """Pictures whose channels are bright where they have the class; every eighth has none."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for part, count in (("train", train), ("val", test)):
        lines = ["image,labels"]
        for i in range(count):
            has = [bool(i >> k & 1) for k in range(3)]
            pixels = rng.integers(0, 60, size=(20, 20, 3)) + 180 * np.array(has[::-1])
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{part} {i}.png")
            lines.append(f"{part} {i}.png,{'|'.join(name for name, there in zip(NAMES, has, strict=True) if there)}")
        (folder / f"{part}.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_lists_give_the_numbers_of_a_pictures_classes_and_none_where_it_has_none(tmp_path: Path) -> None:
    splits = open_multilabel_splits(write_data(tmp_path / "data"))
    assert splits.train.class_names == splits.test.class_names == NAMES
    assert [splits.train.target(i) for i in range(4)] == [(), (0,), (1,), (0, 1)]
    assert Path(splits.train.name(3)).name == "train 3.png"
    assert isinstance(splits.train.read(3), bytes)
    name, test = open_multilabel_test(tmp_path / "data")
    assert (name, len(test)) == (f"{tmp_path / 'data'}/val", 9)


def test_one_list_is_divided_and_targets_follow_their_pictures(tmp_path: Path) -> None:
    path = write_data(tmp_path / "data") / "train.csv"
    splits = open_multilabel_splits(path, val_split=0.25)
    for part in (splits.train, splits.test):
        for i in range(len(part)):
            number = int(Path(part.name(i)).stem.split()[1])
            assert part.target(i) == tuple(k for k in range(3) if number >> k & 1)
    assert len(splits.train) + len(splits.test) == 24


def test_a_class_that_training_does_not_know_is_refused(tmp_path: Path) -> None:
    folder = write_data(tmp_path / "data")
    (folder / "val.csv").write_text("val 1.png,red;violet\n")
    with pytest.raises(DataError, match="violet"):
        open_multilabel_splits(folder)


def test_a_folder_without_lists_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no list\. Expected train\.csv and val\.csv with lines such as"):
        open_multilabel_splits(tmp_path)


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_scikit_learns_also_with_equal_scores(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=200).round(1 if seed % 2 else 8)
    has = rng.random(200) < 0.2
    assert average_precision(scores, has) == pytest.approx(100 * average_precision_score(has, scores), rel=1e-12)
    assert average_precision(scores, np.zeros(200, dtype=bool)) is None


def test_the_metric_is_the_same_over_ranks_and_its_mean_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(60, 4)).astype(np.float32)
    targets = [tuple(np.flatnonzero(row).tolist()) for row in rng.random((60, 4)) < (0.1, 0.5, 0.9, 0.0)]
    whole, *parts = (MeanAveragePrecision("abcd") for _ in range(4))
    whole.update(list(logits), targets, range(60))
    for rank, part in enumerate(parts):
        part.update(list(logits[rank::3]), targets[rank::3], range(rank, 60, 3))
    parts[0].merge(parts[1:])
    assert parts[0].compute() == whole.compute()
    has = several_hot(targets, 4).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = 100 * average_precision_score(has[:, :3], logits[:, :3], average="macro")
    found = whole.compute()
    assert found.mean_ap == pytest.approx(expected, rel=1e-12)
    assert found.classes[3].ap is None
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.from_numpy(logits).double(), torch.from_numpy(has)
    )
    assert found.loss == pytest.approx(loss.item(), rel=1e-12)
    assert "mAP" in str(found)
    assert "<table" in found._repr_html_()


def test_logits_that_are_not_finite_are_refused() -> None:
    metric = MeanAveragePrecision("ab")
    metric.update([np.array([0.0, np.nan], dtype=np.float32)], [(1,)], [0])
    with pytest.raises(DataError, match="1 of 1 pictures"):
        metric.compute()


def test_smoothing_is_timms() -> None:
    logits = torch.randn(6, 5, dtype=torch.float64)
    labels = torch.tensor([0, 1, 4, 2, 2, 3])
    ours = several_hot([(int(label),) for label in labels], 5, smoothing=0.1)
    found = torch.nn.functional.binary_cross_entropy_with_logits(logits, ours)
    torch.testing.assert_close(found, BinaryCrossEntropy(smoothing=0.1)(logits, labels))


def test_a_run_learns_resumes_in_the_same_bits_and_leaves_a_file_that_names_its_task(tmp_path: Path) -> None:
    splits = open_multilabel_splits(write_data(tmp_path / "data"))
    recipe = load_recipe(
        "finetune_multilabel",
        [
            *SMALL,
            *SHORT,
            "model.drop_path_rate=0",
            "schedule.epochs=8",
            "schedule.warmup_epochs=1",
            "optimizer.lr=3e-3",
        ],
    )
    whole = prepare(recipe, splits, out=tmp_path / "whole", device=CPU)
    fit(whole)
    lines = [json.loads(line) for line in (whole.out / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["map"] > 90
    assert lines[-1]["images"] == 9
    assert (whole.out / "report.html").is_file()
    file = whole.out / "best.safetensors"
    assert read_checkpoint(file).task == "multilabel"
    assert load(file).task == "multilabel"

    cut = prepare(recipe, splits, out=tmp_path / "cut", device=CPU)
    fit(cut, on_step=lambda line: line["step"] == 5)
    again = prepare(recipe, splits, out=tmp_path / "cut", device=CPU, resume=True)
    fit(again)
    assert (again.out / "metrics.jsonl").read_bytes() == (whole.out / "metrics.jsonl").read_bytes()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name


def test_a_row_says_probabilities_and_a_drawing_the_classes() -> None:
    task = find_task("multilabel")
    row = task.row(np.array([-2.0, 0.0, 3.0]), NAMES, top_k=2)
    assert [each["class"] for each in row["predictions"]] == ["red", "green"]
    assert row["predictions"][1]["probability"] == 0.5
    picture = Image.new("RGB", (40, 30))
    assert task.draw(picture, np.array([1.0, -1.0, 1.0]), NAMES).height > 30
    assert task.draw(picture, (), NAMES).size == task.draw(picture, (0, 2), NAMES).size


def test_the_command_trains_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "train",
        "finetune_multilabel",
        "--data",
        str(write_data(tmp_path / "data")),
        "--out",
        str(tmp_path / "run"),
    ]
    assert (
        main([*words, "--device", "cpu", "--set", *SMALL, *SHORT, "schedule.epochs=1", "schedule.warmup_epochs=0"]) == 0
    )
    assert "Best mAP" in capsys.readouterr().out


def test_a_sweep_and_a_report_know_the_task_by_its_protocol_only(tmp_path: Path) -> None:
    data, grid = write_data(tmp_path / "data"), tmp_path / "grid.yaml"
    settings = ", ".join(f'"{each}"' for each in (*SMALL, *SHORT, "schedule.epochs=1", "schedule.warmup_epochs=0"))
    grid.write_text(
        "about: {title: small, source: here, command: none, cost: seconds, status: a test}\n"
        f"recipe: finetune_multilabel\nset: [{settings}]\nrows:\n  - {{name: one}}\n"
    )
    done = sweep(grid, data, out=tmp_path / "out", device="cpu")
    (row,) = json.loads((tmp_path / "out" / "table.json").read_text())
    assert row["map"] == row["last_map"] > 0
    assert "best mAP" in str(done)
    written = write_report(tmp_path / "out" / "01-one" / "best.safetensors", data, tmp_path / "page.html")
    html = written.path.read_text(encoding="utf-8")
    assert "Where it came from" in html
    assert "green" in html
    assert str(round(written.result.figures["map"], 2)) in str(written)
