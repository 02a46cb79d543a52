"""hybridvit demo, cut short: every step runs, in order, and leaves its file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from hybridvit.cli.main import main
from hybridvit.data.digits import write_digits


def test_the_digits_are_scikit_learns_in_its_order(tmp_path: Path) -> None:
    root = write_digits(tmp_path / "digits")
    train, test = (sorted((root / part).glob("*/*.png"), key=lambda path: path.name) for part in ("train", "test"))
    assert (len(train), len(test)) == (898, 899)
    digits = load_digits()
    assert [int(path.parent.name) for path in train + test] == digits.target.tolist()
    for number in (0, 897, 898, 1796):
        small = Image.open((train + test)[number]).resize((8, 8), Image.Resampling.BOX)
        assert np.corrcoef(np.asarray(small).ravel(), digits.images[number].ravel())[0, 1] > 0.9


def test_the_demo_trains_evaluates_predicts_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def few_digits(root: Path) -> Path:
        for path in write_digits(root).glob("*/*/*.png"):
            if int(path.stem) % 7:
                path.unlink()
        return root

    monkeypatch.setattr("hybridvit.data.digits.write_digits", few_digits)
    words = ["demo", "--model", "cmt_nano", "--out", str(tmp_path / "out"), "--seed", "3"]
    words += ["--set", "schedule.epochs=1", "schedule.warmup_epochs=0", "run.workers=0"]
    assert main(words) == 0
    out = capsys.readouterr().out
    for name in ("run/last.safetensors", "report.png", "logits.npz"):
        assert (tmp_path / "out" / name).stat().st_size > 0
        assert str(tmp_path / "out" / name) in out
    steps = [line.split()[2] for line in out.splitlines() if line.startswith("$ ")]
    assert steps == ["train", "eval", "predict"]
    assert "model.name=cmt_nano seed=3" in out
    assert "Worth typing next" in out

    assert main(words) == 0
    assert "--resume" in capsys.readouterr().out


def test_the_demo_of_detection_trains_evaluates_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hybridvit.demos.TRAIN_SCENES", 16)
    monkeypatch.setattr("hybridvit.demos.TEST_SCENES", 3)
    words = ["demo", "--task", "detection", "--out", str(tmp_path / "out"), "--set", "run.workers=0", "global_batch=8"]
    assert main(words) == 0
    out = capsys.readouterr().out
    steps = [line.split()[2] for line in out.splitlines() if line.startswith("$ ")]
    assert steps == ["train", "eval", "predict"]
    assert "box AP" in out
    for name in ("run/last.safetensors", "run/report.html", "run/predictions.coco.json", "scenes/valid"):
        assert str(tmp_path / "out" / name) in out
        assert (tmp_path / "out" / name).exists()
    assert len(list((tmp_path / "out" / "drawn").iterdir())) == 3


def test_the_demo_of_segmentation_trains_evaluates_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hybridvit.demos.TRAIN_SCENES", 16)
    monkeypatch.setattr("hybridvit.demos.TEST_SCENES", 3)
    words = ["demo", "--task", "segmentation", "--out", str(tmp_path / "out"), "--set", "global_batch=8"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "mIoU" in out
    for name in ("run/last.safetensors", "run/worst.png"):
        assert str(tmp_path / "out" / name) in out
        assert (tmp_path / "out" / name).exists()
    assert (tmp_path / "out" / "drawn").is_dir()


def test_a_demo_that_is_stopped_in_training_evaluates_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hybridvit.cli.train.run", lambda _: 0)  # as after SIGTERM: no error, and no weights yet
    assert main(["demo", "--model", "cmt_nano", "--out", str(tmp_path / "out")]) == 0
    steps = [line.split()[2] for line in capsys.readouterr().out.splitlines() if line.startswith("$ ")]
    assert steps == ["train"]


def test_a_model_of_another_task_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--task", "detection", "--model", "cvt_nano"]) == 2
    assert "--task detection shows retinanet_cmt_nano" in capsys.readouterr().err
