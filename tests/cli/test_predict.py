"""hybridvit predict: probabilities by name for pictures, however they are handed over."""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hybridvit.cli.main import main
from hybridvit.data.decode import decode
from hybridvit.data.transforms import eval_transform
from hybridvit.models import catalog
from hybridvit.weights import checkpoint
from hybridvit.weights.load import load
from kinds import KINDS, as_zip

MakePictures = Callable[..., Path]


def predict(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    code = main(["predict", *map(str, words), "--device", "cpu"])
    out, err = capsys.readouterr()
    return code, out, err


def test_json_holds_what_the_model_itself_computes(
    weights: Path, make_pictures: MakePictures, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_pictures(test=1) / "test" / "b" / "000.png"
    code, out, _ = predict(capsys, weights, path, "--json", "--top-k", "2")
    model = load(weights)
    with torch.inference_mode():
        logits = model(eval_transform(model.preprocess)(decode(path.read_bytes(), name="it"))[None])
    top = logits.softmax(dim=1)[0].topk(2)
    (picture,) = json.loads(out)["pictures"]
    assert code == 0
    assert picture["path"] == str(path)
    assert [found["class"] for found in picture["predictions"]] == [model.label_names[k] for k in top.indices]
    probabilities = [found["probability"] for found in picture["predictions"]]
    assert probabilities == pytest.approx(top.values.tolist(), rel=1e-5)


@pytest.mark.parametrize("engine", ["fused", "onnx", "openvino", "compiled"])
def test_every_engine_says_the_same(
    engine: str, make_pictures: MakePictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(engine, "openvino" if engine == "openvino" else "torch"))
    if engine == "compiled" and shutil.which("g++") is None:
        pytest.skip("inductor compiles with g++")
    model = catalog.create("cvt_nano", num_classes=3, dims=(8,), depths=(1,), heads=(1,))
    checkpoint.save(model, tmp_path / "one.safetensors", label_names=["a", "b", "c"])
    pictures = make_pictures(test=3) / "test"  # nine, in batches of 4, 4 and 1
    found = []
    for name in ("eager", engine):
        words = [tmp_path / "one.safetensors", pictures, "--json", "--batch", "4", "--top-k", "3", "--engine", name]
        code, out, _ = predict(capsys, *words)
        assert code == 0
        found.append(json.loads(out)["pictures"])
    for plain, other in zip(*found, strict=True):
        assert plain["path"] == other["path"]
        probabilities = [{one["class"]: one["probability"] for one in p["predictions"]} for p in (plain, other)]
        assert probabilities[1] == pytest.approx(probabilities[0], rel=1e-4)


def test_folders_and_files_are_predicted_in_the_order_given(
    weights: Path, make_pictures: MakePictures, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_pictures(test=2)
    last = data / "test" / "a" / "001.png"
    _, out, _ = predict(capsys, weights, data / "test" / "c", last, "--json")
    expected = [data / "test" / "c" / "000.png", data / "test" / "c" / "001.png", last]
    assert [picture["path"] for picture in json.loads(out)["pictures"]] == [str(path) for path in expected]


@pytest.mark.parametrize("kind", ["lists", "zip", "shards with .cls", "Hugging Face"])
def test_every_kind_of_data_set_is_predicted_alike(
    kind: str, weights: Path, make_pictures: MakePictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "Hugging Face":
        pytest.importorskip("datasets")

    def answers(data: Path) -> list[list[float]]:
        code, out, _ = predict(capsys, weights, data, "--json", "--workers", "1")
        assert code == 0
        found = [[p["probability"] for p in picture["predictions"]] for picture in json.loads(out)["pictures"]]
        return sorted(found)

    plain = make_pictures(train=2, test=1)
    expected = answers(plain)
    assert len(expected) == 9
    for one, other in zip(answers(KINDS[kind](plain, tmp_path / "kept")), expected, strict=True):
        assert one == pytest.approx(other, rel=1e-5)


def test_a_broken_picture_in_an_archive_is_named(
    weights: Path, make_pictures: MakePictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = make_pictures(train=1, test=1)
    (plain / "test" / "a" / "000.png").write_bytes(b"no picture")
    code, out, err = predict(capsys, weights, as_zip(plain, tmp_path / "kept"), "--json")
    assert code == 1
    assert json.loads(out)["broken"] == [f"{tmp_path}/kept.zip/wrapper/test/a/000.png"]
    assert "kept.zip/wrapper/test/a/000.png cannot be read as a picture" in err


def test_csv_has_a_line_per_picture_and_class(
    weights: Path, make_pictures: MakePictures, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = predict(capsys, weights, make_pictures(test=2) / "test", "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 6 * 3
    assert [row["rank"] for row in rows[:3]] == ["1", "2", "3"]
    assert sum(float(row["probability"]) for row in rows[:3]) == pytest.approx(1, abs=1e-5)


def test_the_table_has_a_line_per_picture(
    weights: Path, make_pictures: MakePictures, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = predict(capsys, weights, make_pictures(test=2) / "test", "--top-k", "1")
    header, *rows = out.splitlines()
    assert header.split() == ["picture", "first"]
    assert len(rows) == 6
    assert all(row.endswith("%") for row in rows)


def test_broken_pictures_are_reported_and_the_rest_goes_on(
    weights: Path, make_pictures: MakePictures, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_pictures(test=2) / "test" / "a"
    (folder / "000.png").write_bytes(b"no picture")
    code, out, err = predict(capsys, weights, folder, "--json")
    found = json.loads(out)
    assert code == 1
    assert [picture["path"] for picture in found["pictures"]] == [str(folder / "001.png")]
    assert found["broken"] == [str(folder / "000.png")]
    assert "Left out:" in err
    assert "000.png cannot be read as a picture" in err


def test_only_broken_pictures_give_no_table_and_no_crash(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "half.png").write_bytes(b"no picture")
    code, out, err = predict(capsys, weights, tmp_path / "half.png")
    assert (code, out) == (1, "")
    assert "half.png" in err


@pytest.mark.parametrize("form", [[], ["--csv"], ["--json"]], ids=str)
def test_a_name_that_is_no_utf8_is_spelt_out_in_every_form(
    form: list[str], weights: Path, make_pictures: MakePictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = tmp_path / os.fsdecode(b"caf\xe9.png")
    shutil.copy(make_pictures(test=1) / "test" / "b" / "000.png", name)
    code, out, err = predict(capsys, weights, name, *form)
    assert code == 0, err
    written = str(json.loads(out)["pictures"]) if form == ["--json"] else out.encode("utf-8").decode("utf-8")
    assert "caf\\udce9.png" in written.replace("\\\\", "\\")


def test_a_model_without_names_counts_its_classes(
    tmp_path: Path, make_pictures: MakePictures, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.save(catalog.create("cvt_nano", num_classes=2), tmp_path / "nameless.safetensors")
    picture = make_pictures(test=1) / "test" / "a" / "000.png"
    _, out, _ = predict(capsys, tmp_path / "nameless.safetensors", picture, "--json")
    (found,) = json.loads(out)["pictures"]
    assert {prediction["class"] for prediction in found["predictions"]} == {"class 0", "class 1"}


@pytest.mark.parametrize(
    ("words", "message"),
    [(["none.png"], "none.png does not exist"), (["empty"], "holds no pictures")],
)
def test_what_cannot_be_predicted_is_an_error(
    tmp_path: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    code, _, err = predict(capsys, weights, *words)
    assert code == 2
    assert message in err
