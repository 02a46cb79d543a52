"""hybridvit eval: every picture counts once, classes are matched by name, what is wrong is said."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hybridvit.cli.main import main
from hybridvit.data.decode import decode
from hybridvit.data.transforms import eval_transform
from hybridvit.models import catalog
from hybridvit.weights import checkpoint
from hybridvit.weights.load import load

MakePictures = Callable[..., Path]


def evaluate(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    code = main(["eval", *map(str, words), "--workers", "0", "--device", "cpu"])
    out, err = capsys.readouterr()
    return code, out, err


def test_json_equals_a_count_by_hand(
    weights: Path, make_pictures: MakePictures, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_pictures(test=7)
    code, out, _ = evaluate(capsys, weights, "--data", data, "--json", "--batch", "4")
    found = json.loads(out)
    model = load(weights)
    transform = eval_transform(model.preprocess)
    expected = np.zeros((3, 3), dtype=int)
    for label, name in enumerate("abc"):
        for path in sorted((data / "test" / name).iterdir()):
            picture = transform(decode(path.read_bytes(), name=path.name))
            with torch.inference_mode():
                expected[label, int(model(picture[None]).argmax())] += 1
    assert code == 0
    assert found["images"] == 21
    assert found["confusion"] == expected.tolist()
    assert found["top1"] == pytest.approx(100 * np.trace(expected) / 21)
    assert found["top5"] is None
    assert (found["checkpoint"], found["data"]) == (str(weights), str(data / "test"))


def test_the_table_names_every_class_and_the_count(
    weights: Path, make_pictures: MakePictures, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = evaluate(capsys, weights, "--data", make_pictures(test=2))
    assert code == 0
    assert "pictures    6\n" in out
    assert [line.split()[0] for line in out.splitlines() if line.strip()[:1] in tuple("abc")].count("a") == 2
    assert "Confusion matrix" in out


def test_a_folder_of_class_folders_needs_no_split(
    weights: Path, make_pictures: MakePictures, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_pictures(test=2)
    whole = evaluate(capsys, weights, "--data", data, "--json")[1]
    part = evaluate(capsys, weights, "--data", data / "test", "--json")[1]
    assert whole == part


def test_the_same_classes_in_another_order_are_matched_by_name(
    tmp_path: Path, weights: Path, make_pictures: MakePictures, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_pictures(test=5)
    model = load(weights)
    order = [2, 0, 1]
    with torch.no_grad():
        model.head.weight.copy_(model.head.weight[order])
        model.head.bias.copy_(model.head.bias[order])
    checkpoint.save(model, tmp_path / "turned.safetensors", label_names=["c", "a", "b"])

    straight = json.loads(evaluate(capsys, weights, "--data", data, "--json")[1])
    turned = json.loads(evaluate(capsys, tmp_path / "turned.safetensors", "--data", data, "--json")[1])
    assert turned["top1"] == straight["top1"]
    assert {c["name"]: c["recall"] for c in turned["classes"]} == {c["name"]: c["recall"] for c in straight["classes"]}
    assert [c["name"] for c in turned["classes"]] == ["c", "a", "b"]
    assert "matched by name" in evaluate(capsys, tmp_path / "turned.safetensors", "--data", data)[1]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("a", "b", "d"), r"unknown to the model: d; without a folder: c"),
        (("a", "b"), r"without a folder: c"),
        (("a", "b", "c", "d"), r"unknown to the model: d"),
    ],
)
def test_other_classes_are_an_error_that_names_them(
    weights: Path,
    make_pictures: MakePictures,
    capsys: pytest.CaptureFixture[str],
    classes: tuple[str, ...],
    message: str,
) -> None:
    code, _, err = evaluate(capsys, weights, "--data", make_pictures(test=1, classes=classes))
    assert code == 2
    assert message in err
    assert "must be called as in training: a, b, c" in err


def test_a_model_without_names_takes_folders_of_the_same_number_only(
    tmp_path: Path, make_pictures: MakePictures, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.save(catalog.create("cvt_nano", num_classes=3), tmp_path / "nameless.safetensors")
    data = make_pictures("three", test=1)
    code, out, _ = evaluate(capsys, tmp_path / "nameless.safetensors", "--data", data, "--json")
    assert code == 0
    assert [c["name"] for c in json.loads(out)["classes"]] == ["a", "b", "c"]
    two = make_pictures("two", test=1, classes=("a", "b"))
    code, _, err = evaluate(capsys, tmp_path / "nameless.safetensors", "--data", two)
    assert code == 2
    assert "knows 3 classes, without their names" in err


def test_a_broken_picture_is_named_left_out_and_told_by_the_exit_code(
    weights: Path, make_pictures: MakePictures, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_pictures(test=2)
    broken = data / "test" / "b" / "000.png"
    broken.write_bytes(broken.read_bytes()[:60])
    code, out, _ = evaluate(capsys, weights, "--data", data)
    assert code == 1
    assert "pictures    5\n" in out
    assert f"1 pictures could not be read and are in no figure:\n  {broken}" in out
    assert json.loads(evaluate(capsys, weights, "--data", data, "--json")[1])["broken"] == [str(broken)]


def test_when_no_picture_can_be_read_it_is_an_error(
    weights: Path, make_pictures: MakePictures, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_pictures(test=1)
    for path in (data / "test").rglob("*.png"):
        path.write_bytes(b"no picture")
    code, _, err = evaluate(capsys, weights, "--data", data)
    assert code == 2
    assert "No picture was evaluated" in err


def test_more_than_twenty_classes_show_their_confusions_as_pairs(
    tmp_path: Path, make_pictures: MakePictures, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tuple(f"class{k:02}" for k in range(21))
    checkpoint.save(catalog.create("cvt_nano", num_classes=21), tmp_path / "wide.safetensors", label_names=names)
    code, out, _ = evaluate(
        capsys, tmp_path / "wide.safetensors", "--data", make_pictures(train=0, test=1, classes=names)
    )
    assert code == 0
    assert "top-5" in out
    assert "The most frequent of" in out
    assert "true \\ found" not in out


def test_a_report_is_drawn(
    tmp_path: Path, weights: Path, make_pictures: MakePictures, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 5, "loss": 1.0}\n{"step": 9, "loss": 0.5, "top1": 100.0}\n')
    code, *_ = evaluate(capsys, weights, "--data", make_pictures(test=9), "--report", tmp_path / "new" / "report.png")
    assert code == 0
    picture = decode((tmp_path / "new" / "report.png").read_bytes(), name="report.png")
    assert picture.width == 1500
    assert len(picture.resize((64, 64)).getcolors(4096)) > 20


def test_figures_are_printed_before_a_report_that_cannot_be_written(
    weights: Path, make_pictures: MakePictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    code, out, err = evaluate(
        capsys, weights, "--data", make_pictures(test=1), "--report", tmp_path / "file" / "report.png", "--json"
    )
    assert code == 2
    assert json.loads(out)["images"] == 3
    assert "cannot be written" in err
