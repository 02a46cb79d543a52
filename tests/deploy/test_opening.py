"""Exported files behind the same door as weights, and what may be asked of them."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

import hybridvit
from hybridvit.config import Preprocess
from hybridvit.deploy import engines, steps
from hybridvit.errors import CheckpointError, ConfigError
from hybridvit.models.backbone import Backbone

MakeModel = Callable[..., Backbone]
SMALL = {"dims": (8, 16), "depths": (1, 1), "heads": (1, 2)}


def small(make_model: MakeModel, **sizes: object) -> Backbone:
    model = make_model("cvt_nano", **(sizes or SMALL))
    model.label_names = ["a", "b", "c", "d", "e"]
    model.preprocess = Preprocess(image_size=(32, 32))
    return model


@pytest.mark.parametrize(("name", "library"), [("x.onnx", "onnxruntime"), ("x.xml", "openvino"), ("x.pt2", "torch")])
def test_an_export_opens_as_weights_do_and_says_what_the_model_said(
    name: str, library: str, make_model: MakeModel, tmp_path: Path
) -> None:
    pytest.importorskip(library)
    model = small(make_model)
    metadata = hybridvit.export(model, tmp_path / name)  # the suffix says which format
    engine = hybridvit.load(tmp_path / name, trusted=True)
    assert metadata["task"] == engine.task == "classification"
    assert (engine.label_names, engine.num_classes, engine.in_chans) == (model.label_names, 5, 3)
    assert engine.preprocess == model.preprocess
    assert engine.architecture == "cvt_nano"
    assert not engine.training
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(engine(x), model(x), rtol=1e-4, atol=1e-5)


def test_a_program_is_opened_only_if_it_is_trusted(tmp_path: Path) -> None:
    (tmp_path / "x.pt2").write_bytes(b"anything")
    with pytest.raises(CheckpointError, match=r"can run any code.*trusted=True"):
        hybridvit.load(tmp_path / "x.pt2")


@pytest.mark.parametrize(("name", "library"), [("x.onnx", "onnxruntime"), ("x.xml", "openvino")])
def test_a_damaged_export_is_named(name: str, library: str, tmp_path: Path) -> None:
    pytest.importorskip(library)
    (tmp_path / name).write_bytes(b"<net")
    with pytest.raises(CheckpointError, match=name):
        hybridvit.load(tmp_path / name)
    with pytest.raises(CheckpointError, match="does not exist"):
        hybridvit.load(tmp_path / f"other{Path(name).suffix}")


@pytest.mark.parametrize(
    ("name", "to", "message"),
    [
        ("folder", None, "is a folder; name the file"),
        ("folder", "openvino", r"folder/model\.xml"),
        ("x.safetensors", None, r"names no format. There are: \.onnx"),
        ("x.onnx", "openvino", r"openvino ends with \.xml"),
        ("x.onnx", "tflite", "No format is called 'tflite'"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused_before_anything_is_built(
    name: str, to: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hybridvit.deploy import export

    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(export, "trace", lambda *_, **__: pytest.fail("built"))
    with pytest.raises(ConfigError, match=message):
        hybridvit.export(nn.Identity(), tmp_path / name, to=to)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_four_threads_with_different_batches_have_the_answers_of_one(name: str, make_model: MakeModel) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(name, name))
    engine = engines.build(name, small(make_model), image_size=(32, 32), batch_size=3)
    pictures = [torch.randn(batch, 3, 32, 32) for batch in (1, 2, 3, 1)]
    expected = [engine(few) for few in pictures]
    with ThreadPoolExecutor(4) as pool:
        for number, found in enumerate(pool.map(lambda number: engine(pictures[number % 4]), range(80))):
            torch.testing.assert_close(found, expected[number % 4])


@pytest.mark.parametrize("name", engines.ENGINES)
@pytest.mark.parametrize("ours", [True, False])
def test_building_an_engine_leaves_the_model_as_it_was(
    name: str, ours: bool, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}.get(name, "torch"))
    foreign = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 30 * 30, 5))
    model = (small(make_model) if ours else foreign).train()
    model.pretrained_cfg = Preprocess(image_size=(32, 32)).to_pretrained_cfg()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    monkeypatch.setattr(nn.Module, "cpu", lambda self: self if self is not model else pytest.fail("moved"))
    engines.build(name, model, image_size=(32, 32), batch_size=2)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_model_of_a_fixed_size_says_which_it_takes() -> None:
    with pytest.raises(ConfigError, match=r"levit_128s does not take pictures of 100 x 100.*224 x 224"):
        steps.create("levit_128s", (100, 100))
    assert steps.own_size("vit_tiny_patch16_384") == (384, 384)
    assert steps.create("vit_tiny_patch16_224", (112, 112)).patch_embed.img_size == (112, 112)
    with pytest.raises(ConfigError, match="knows a model called 'resnet5000'"):
        steps.create("resnet5000", (32, 32))


def test_benches_without_rounds_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 2 rounds"):
        hybridvit.bench(["cvt_nano"], rounds=1)


def test_an_export_is_evaluated_and_predicts_as_the_weights_do(
    make_model: MakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    from PIL import Image

    from hybridvit.cli.main import main

    model = small(make_model, depths=(1, 1, 1))
    rng = torch.Generator().manual_seed(0)
    for label in model.label_names:
        (tmp_path / "data/test" / label).mkdir(parents=True)
        for number in range(2):
            pixels = torch.randint(0, 256, (32, 32, 3), generator=rng, dtype=torch.uint8).numpy()
            Image.fromarray(pixels).save(tmp_path / f"data/test/{label}/{number}.png")
    hybridvit.save(model, tmp_path / "x.safetensors")
    hybridvit.export(model, tmp_path / "x.onnx")
    figures = []
    for name in ("x.safetensors", "x.onnx"):
        assert main(["eval", str(tmp_path / name), "--data", str(tmp_path / "data"), "--json"]) == 0
        figures.append(json.loads(capsys.readouterr().out))
    assert figures[1]["top1"] == figures[0]["top1"]
    assert figures[1]["loss"] == pytest.approx(figures[0]["loss"], rel=1e-4)
    rows = [hybridvit.predict(tmp_path / name, tmp_path / "data/test", top_k=1) for name in ("x.safetensors", "x.onnx")]
    first = [[row.to_dict()["predictions"][0]["class"] for row in each] for each in rows]
    assert first[0] == first[1]
    assert len(first[0]) == 10
