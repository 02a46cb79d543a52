"""What a data set holds is told by every command that opens one: pictures seen, taken and passed over."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridvit.cli.main import main

MakePictures = Callable[..., Path]
PASSED_OVER = {"hidden": 1, "no picture (.txt)": 1, "of a format that is not read (.heic)": 1}


@pytest.fixture
def data(make_pictures: MakePictures) -> Path:
    root = make_pictures(train=4, test=2)
    for part in ("train", "test"):
        for name in (".x.png", "notes.txt", "y.heic"):
            (root / part / "a" / name).write_bytes(b"")
    return root


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    code = main([*map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def test_eval_says_what_it_found(weights: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("eval", weights, "--data", data, "--device", "cpu", "--workers", "0")
    assert json.loads(run(capsys, *words, "--json")[1])["counts"] == {"seen": 9, "taken": 6, "passed_over": PASSED_OVER}
    assert "6 pictures of 9 seen; passed over: 1 hidden" in run(capsys, *words)[1]


def test_predict_says_what_it_found_beside_its_table(
    weights: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("predict", weights, data / "test", "--device", "cpu")
    assert json.loads(run(capsys, *words, "--json")[1])["counts"] == {"seen": 9, "taken": 6, "passed_over": PASSED_OVER}
    _, out, err = run(capsys, *words, "--csv")
    assert "passed over" not in out
    assert "6 pictures of 9 seen" in err


def test_data_check_lists_it_and_a_format_that_is_not_read_is_a_problem(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "data", "check", data, "--workers", "0", "--min-side", "8", "--json")
    found = json.loads(out)
    assert code == 1
    assert found["files"]["train"] == {"seen": 15, "taken": 12, "passed_over": PASSED_OVER}
    assert "1 passed over in test: of a format that is not read (.heic)." in found["problems"]
    assert "1 passed over in train: hidden." in found["notices"]
    assert "train: 12 pictures of 15 seen" in run(capsys, "data", "check", data, "--workers", "0")[1]


def test_train_and_sweep_say_it_of_both_parts(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("train", "digits", "--data", data, "--out", tmp_path / "run", "--device", "cpu")
    sizes = (
        "schedule.epochs=1",
        "schedule.warmup_epochs=0",
        "global_batch=4",
        "preprocess.image_size=[32, 32]",
        "run.workers=0",
    )
    code, out, _ = run(capsys, *words, "--set", *sizes)
    assert code == 0
    assert "train: 12 pictures of 15 seen; passed over: 1 hidden" in out
    assert "test: 6 pictures of 9 seen; passed over: 1 hidden" in out


def test_columns_are_chosen_on_the_command_line(
    weights: Path, make_pictures: MakePictures, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_pictures(train=1, test=1) / "test"
    lines = ["shot,one,two", *(f"{name}/000.png,{name},x" for name in "abc")]
    (root / "list.csv").write_text("\n".join(lines))
    words = ("eval", weights, "--data", root / "list.csv", "--device", "cpu", "--workers", "0", "--json")
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "line 1 (shot, one, two) does not fit the lines below it" in err
    code, out, _ = run(capsys, *words, "--columns", "shot,one")
    assert code == 0
    assert json.loads(out)["counts"]["taken"] == 3
