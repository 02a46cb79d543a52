"""hybridvit train, from the command line to the files."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridvit.cli.main import main
from kinds import as_zip

MakePictures = Callable[..., Path]
SMALL = ["--set", "global_batch=12", "schedule.epochs=2", "schedule.warmup_epochs=0"]


def test_train_writes_a_run_and_says_where(
    make_pictures: MakePictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", "digits", "--data", str(make_pictures()), "--out", str(out), "--device", "cpu", *SMALL]) == 0
    printed = capsys.readouterr().out
    assert "epoch   2/2  top-1" in printed
    assert f"18 pictures: {out / 'best.safetensors'}" in printed
    assert (out / "best.safetensors").is_file()


def test_print_shows_recipe_and_schedule_without_training(
    make_pictures: MakePictures, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "digits", "--print", "--data", str(make_pictures()), *SMALL]) == 0
    printed = capsys.readouterr().out
    assert "global_batch: 12" in printed
    assert "# 36 pictures, 3 steps of 12 per epoch, 2 epochs: 6 steps" in printed
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits"], "ConfigError: --data DIR is missing"),
        (["digitz", "--data", "x"], "ConfigError: digitz is neither a recipe nor a file; the nearest recipe is digits"),
        (
            ["digits", "--data", "nowhere"],
            "DataError: nowhere does not exist. Expected nowhere/train/CLASS/PICTURE.jpg and nowhere/test/CLASS/PICTURE.jpg",
        ),
        (["digits", "--data", "x", "--set", "lr=1"], "ConfigError: --set lr=1: lr is unknown"),
    ],
)
def test_mistakes_are_one_clear_message_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert "Traceback" not in captured.err


def test_an_empty_folder_is_told_what_belongs_into_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", "--data", str(tmp_path)]) == 2
    assert f"{tmp_path} is empty. Expected {tmp_path}/train/CLASS/PICTURE.jpg" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_refused(
    make_pictures: MakePictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = str(make_pictures()), str(tmp_path / "run")
    assert main(["train", "digits", "--data", data, "--out", out, "--device", "quantum", *SMALL]) == 2
    assert "device quantum cannot be used" in capsys.readouterr().err


def test_one_folder_in_a_zip_is_divided_trained_and_evaluated_on_the_same_pictures(
    make_pictures: MakePictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(as_zip(make_pictures() / "train", tmp_path / "pictures"))
    out = tmp_path / "run"
    common = ["train", "digits", "--data", data, "--out", str(out), "--device", "cpu"]
    assert main([*common, "--val-split", "0.25", *SMALL]) == 0
    assert "of 9 pictures" in capsys.readouterr().out
    assert "val_split: 0.25" in (out / "recipe.yaml").read_text()
    evaluate = [
        "eval",
        str(out / "best.safetensors"),
        "--data",
        data,
        "--val-split",
        "0.25",
        "--json",
        "--workers",
        "0",
    ]
    assert main(evaluate) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 9
