"""evaluation/imagenet.py: the further test sets, each label where the model has it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hybridvit.cli.main import main
from hybridvit.config import Preprocess
from hybridvit.data.imagenet import descriptions, synsets
from hybridvit.data.readers.folder import read_folder
from hybridvit.errors import DataError
from hybridvit.evaluation.classes import align
from hybridvit.evaluation.imagenet import (
    ALEXNET_ERRORS,
    corruption_errors,
    corruption_folders,
    imagenet_labels,
    mean_corruption_error,
    read_real,
    real_accuracy,
    restrict,
)
from hybridvit.evaluation.logits import Result, load_logits
from hybridvit.models import catalog
from hybridvit.weights import checkpoint

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write("name", ["folder", ...]): one picture per class folder."""

    def make(name: str, folders: list[str], file: str = "x.png") -> Path:
        for number, folder in enumerate(folders):
            path = tmp_path / name / folder
            path.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (number % 256, number // 256 * 60, 80)).save(path / file)
        return tmp_path / name

    return make


def answers(logits: np.ndarray, paths: list[str]) -> Result:
    return Result(logits, np.zeros(len(logits), dtype=np.int64), tuple(paths), synsets())


def test_folders_of_v2_are_numbers_and_not_words(write: Write) -> None:
    source = read_folder(write("v2", [str(k) for k in range(1000)]))
    assert source.class_names[2] == "10"  # sorted as words: this is the trap
    aligned = align(source, None, num_classes=1000, model_name="m", data_name="d")
    assert aligned.class_names == synsets()
    for index in range(0, 1000, 37):
        assert aligned.labels[index] == int(Path(aligned.name(index)).parent.name)


@pytest.mark.parametrize("names", [None, "synsets", "words"])
def test_some_synsets_meet_their_logits_whatever_the_model_calls_them(write: Write, names: str | None) -> None:
    some = [synsets()[k] for k in (5, 900, 123)]
    label_names = {None: None, "synsets": list(synsets()), "words": list(descriptions())}[names]
    source = align(read_folder(write("r", some)), label_names, num_classes=1000, model_name="m", data_name="d")
    found = {Path(source.name(i)).parent.name: source.labels[i] for i in range(3)}
    assert found == {synsets()[k]: k for k in (5, 900, 123)}
    assert source.class_names[5] == (label_names or synsets())[5]


def test_other_models_and_other_folders_are_not_imagenets(write: Write) -> None:
    some = read_folder(write("r", [synsets()[k] for k in (5, 900)]))
    with pytest.raises(DataError, match="differ"):
        align(some, [f"thing {k}" for k in range(1000)], num_classes=1000, model_name="m", data_name="d")
    with pytest.raises(DataError, match="knows 1000 classes"):
        align(read_folder(write("x", ["cat", "dog"])), None, num_classes=1000, model_name="m", data_name="d")
    assert imagenet_labels(["n01440764", "cat"]) is None


def test_only_the_classes_of_the_set_compete() -> None:
    logits = np.array([[9.0, 1.0, 2.0, 3.0], [0.0, 5.0, 0.0, 6.0]], dtype=np.float32)
    result = Result(logits, np.array([3, 1]), ("x", "y"), ("a", "b", "c", "d"))
    some = restrict(result, [1, 3])
    assert some.class_names == ("b", "d")
    assert some.labels.tolist() == [1, 0]
    assert some.metrics.top1 == 50
    assert result.metrics.top1 == 0


def test_real_accuracy_is_timms(tmp_path: Path) -> None:
    from timm.data.real_labels import RealLabelsImagenet

    rng = np.random.default_rng(0)
    lists = [rng.choice(1000, size=count, replace=False).tolist() for count in rng.integers(0, 4, size=60)]
    (tmp_path / "real.json").write_text(json.dumps(lists))
    logits = rng.normal(size=(60, 1000)).astype(np.float32)
    for row, labels in zip(logits[::2], lists[::2], strict=True):
        row[labels] += 9
    names = [f"val/n01440764/ILSVRC2012_val_{k + 1:08d}.JPEG" for k in rng.permutation(60)]
    theirs = RealLabelsImagenet(names, real_json=str(tmp_path / "real.json"))
    theirs.add_result(torch.from_numpy(logits))
    found = real_accuracy(answers(logits, names), read_real(tmp_path / "real.json"))
    assert found.top1 == pytest.approx(theirs.get_accuracy(k=1))
    assert found.images == sum(bool(labels) for labels in lists)


@pytest.mark.parametrize("text", ["{}", "[1, 2]", '[["a"]]', "[[1000]]", "no json"])
def test_what_is_no_list_of_label_lists_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "real.json").write_text(text)
    with pytest.raises(DataError, match=r"real\.json"):
        read_real(tmp_path / "real.json")


def test_real_labels_need_imagenets_names_and_classes() -> None:
    logits = np.zeros((1, 1000), dtype=np.float32)
    with pytest.raises(DataError, match="has no ReaL label"):
        real_accuracy(answers(logits, ["cat.jpg"]), [[1]])
    with pytest.raises(DataError, match="has no ReaL label"):
        real_accuracy(answers(logits, ["ILSVRC2012_val_00000002.JPEG"]), [[1]])
    with pytest.raises(DataError, match="None of these pictures"):
        real_accuracy(answers(logits, ["ILSVRC2012_val_00000001.JPEG"]), [[]])
    few = Result(logits[:, :3], np.zeros(1, dtype=np.int64), ("x",), ("a", "b", "c"))
    with pytest.raises(DataError, match="1,000 classes"):
        real_accuracy(few, [[1]])


def test_alexnet_itself_has_a_mean_corruption_error_of_100() -> None:
    own = corruption_errors({name: [error] * 5 for name, error in ALEXNET_ERRORS.items()})
    assert mean_corruption_error(own) == pytest.approx(100)
    half = corruption_errors({"snow": [0, 20, 40, 60, 2 * 86.6816 + 20.0 - 140]})
    assert len(ALEXNET_ERRORS) == 15
    assert half[0].relative == pytest.approx(100 * np.mean(half[0].errors) / 86.6816)


@pytest.fixture
def thousand(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = catalog.create("cvt_nano", num_classes=1000)
    path = tmp_path / "thousand.safetensors"
    checkpoint.save(model, path, preprocess=Preprocess(image_size=(32, 32), crop_pct=0.9))
    return path


def test_a_tree_of_corruptions_is_evaluated_by_severity(
    write: Write, thousand: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = [synsets()[k] for k in (5, 900)]
    root = write("c", [f"blur/motion_blur/{s}/{name}" for s in range(1, 6) for name in some])
    write("c", [f"snow/{s}/{name}" for s in range(1, 6) for name in some])
    assert list(corruption_folders(root)) == ["motion_blur", "snow"]
    words = ["eval", str(thousand), "--data", str(root), "--workers", "0", "--device", "cpu"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    by_name = {c["name"]: c for c in found["corruptions"]}
    assert len(by_name["snow"]["errors"]) == 5
    assert found["mce"] == pytest.approx(np.mean([c["relative"] for c in found["corruptions"]]))
    assert "fog" in found["missing"]
    assert main(words) == 0
    assert "mean corruption error" in capsys.readouterr().out
    assert main([*words, "--logits", "x.npz"]) == 2
    for path in sorted((root / "snow" / "3").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (root / "snow" / "3").rmdir()
    assert main(words) == 2
    assert "3 is missing: every corruption has the severities 1 to 5" in capsys.readouterr().err


def test_logits_of_a_set_of_some_classes_are_kept_restricted_and_rescored(
    write: Write, thousand: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write("a", [synsets()[k] for k in (5, 123, 900)])
    words = ["eval", str(thousand), "--data", str(root), "--workers", "0", "--device", "cpu", "--json"]
    assert main([*words, "--logits", str(tmp_path / "a.npz"), "--flip", "--crops", "5"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert load_logits(tmp_path / "a.npz").logits.shape == (3, 3)
    assert main(["score", str(tmp_path / "a.npz"), str(tmp_path / "a.npz"), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["top1"], again["confusion"]) == (evaluated["top1"], evaluated["confusion"])
    assert again["calibration_error"] == pytest.approx(evaluated["calibration_error"], abs=1e-4)
    assert evaluated["views"] == "5 crops, mirror image"


def test_real_labels_are_scored_from_the_command_line(
    write: Write, thousand: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write("val", [synsets()[7]], file="ILSVRC2012_val_00000002.JPEG")
    words = ["eval", str(thousand), "--data", str(root), "--workers", "0", "--device", "cpu"]
    (tmp_path / "real.json").write_text(json.dumps([[], list(range(1000)), [3]]))
    assert main([*words, "--real", str(tmp_path / "real.json")]) == 2
    assert "1,000 classes" in capsys.readouterr().err  # with one class folder, only its logit is left
