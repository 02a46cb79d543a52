"""weights/checkpoint.py and load.py: what a model carries stays with it, and what is no model's is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

import hybridvit
from hybridvit.config import Preprocess
from hybridvit.deploy.fuse import fuse
from hybridvit.errors import CheckpointError
from hybridvit.models import catalog
from hybridvit.models.heads import assembly
from hybridvit.weights.load import read_checkpoint
from support import randomise

RECIPE, ORIGIN, METRICS = {"seed": 1, "betas": [0.9, 0.99]}, {"source": "here"}, {"top1": 99.0}


def model_of(name: str = "cvt_nano", **changes: Any) -> Any:
    return randomise(catalog.create(name, **{"num_classes": 3} | changes)).float().eval()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "saved.safetensors"
    belongings: dict[str, Any] = {"recipe": RECIPE, "origin": ORIGIN, "metrics": METRICS}
    hybridvit.save(model_of("cmt_nano"), path, label_names=["a", "b", "c"], **belongings)
    return path


def again(model: nn.Module, tmp_path: Path) -> Any:
    hybridvit.save(model, tmp_path / "again.safetensors")
    return read_checkpoint(tmp_path / "again.safetensors")


# ---- order and wrappers -----------------------------------------------------------------------------------------------------


def test_a_model_of_fewer_stages_than_its_family_comes_back(tmp_path: Path) -> None:
    model = model_of(dims=(8, 16), depths=(1, 1), heads=(1, 2))
    hybridvit.save(model, tmp_path / "two.safetensors")
    x_BCHW = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(hybridvit.load(tmp_path / "two.safetensors").eval()(x_BCHW), model(x_BCHW))


def test_the_order_of_before_still_works_and_says_so(tmp_path: Path) -> None:
    model = model_of()
    for path in (tmp_path / "a.safetensors", str(tmp_path / "b.safetensors")):
        with pytest.warns(DeprecationWarning, match=r"save\(path, model\) is now save\(model, path\)"):
            hybridvit.save(path, model, label_names=["a", "b", "c"])  # type: ignore[arg-type]
        assert read_checkpoint(path).label_names == ["a", "b", "c"]


@pytest.mark.parametrize(
    "wrap",
    [nn.DataParallel, torch.compile, lambda model: nn.DataParallel(torch.compile(model))],
    ids=["DataParallel", "compile", "both"],
)
def test_wrappers_are_taken_off(tmp_path: Path, wrap: Any) -> None:
    model = model_of()
    found = again(wrap(model), tmp_path)
    assert found.state.keys() == model.state_dict().keys()
    assert (found.architecture, found.num_classes) == ("cvt_nano", 3)


def test_distributed_data_parallel_is_taken_off(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = model_of()
        assert again(nn.parallel.DistributedDataParallel(model), tmp_path).state.keys() == model.state_dict().keys()
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    "make", [lambda: fuse(model_of()), lambda: nn.Linear(2, 2), lambda: model_of(features_only=True)]
)
def test_what_cannot_be_loaded_again_is_not_saved(tmp_path: Path, make: Any) -> None:
    with pytest.raises(CheckpointError, match=r"x\.safetensors: a \w+ is no model of the catalogue"):
        hybridvit.save(make(), tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["retinanet_cmt_nano", "mask_rcnn_cvt_nano", "semantic_fpn_cmt_nano", "upernet_cvt_nano"]
)
def test_detectors_and_segmenters_come_back_with_their_task(tmp_path: Path, name: str) -> None:
    model: Any = assembly.create(name, num_classes=3, in_chans=1).eval()
    hybridvit.save(model, tmp_path / "x.safetensors", label_names=["a", "b", "c"])
    loaded: Any = hybridvit.load(tmp_path / "x.safetensors")
    assert (loaded.architecture, loaded.task, loaded.label_names) == (name, model.task, ["a", "b", "c"])
    assert type(loaded) is type(model)
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True)
    )


# ---- what belongs to a model ------------------------------------------------------------------------------------------------


def test_a_loaded_model_carries_everything_and_saving_keeps_recipe_and_origin(saved: Path, tmp_path: Path) -> None:
    model: Any = hybridvit.load(saved)
    assert (model.recipe, model.origin, model.metrics) == (RECIPE, ORIGIN, METRICS)
    found = again(model, tmp_path)
    assert (found.recipe, found.origin, found.label_names) == (RECIPE, ORIGIN, ["a", "b", "c"])
    assert found.metrics is None  # the weights may have been trained since


def test_a_new_classifier_begins_without_names(saved: Path, tmp_path: Path) -> None:
    model: Any = hybridvit.load(saved)
    model.reset_classifier(5)
    found = again(model, tmp_path)
    assert (found.num_classes, found.label_names, found.recipe) == (5, None, RECIPE)
    model.reset_classifier(3)  # as many as before, and others
    assert again(model, tmp_path).label_names is None


def test_a_segmenters_new_classifier_begins_without_names(tmp_path: Path) -> None:
    hybridvit.save(
        hybridvit.create_model("semantic_fpn_cmt_nano", num_classes=2), tmp_path / "x", label_names=["a", "b"]
    )
    model: Any = hybridvit.load(tmp_path / "x")
    model.reset_classifier(2)
    assert again(model, tmp_path).label_names is None


@pytest.mark.parametrize("name", ["cmt_nano", "cvt_nano"])
def test_another_picture_size_is_the_one_that_is_written(tmp_path: Path, name: str) -> None:
    hybridvit.save(model_of(name), tmp_path / "x.safetensors")
    model: Any = hybridvit.load(tmp_path / "x.safetensors")
    if name == "cvt_nano":  # which is tied to none
        model.preprocess = Preprocess(image_size=(64, 64))
    else:
        model.set_input_size(64)
    found = again(model, tmp_path)
    assert found.preprocess.image_size == (64, 64)
    assert hybridvit.load(tmp_path / "again.safetensors").pretrained_cfg["input_size"] == (3, 64, 64)


def test_another_number_of_channels_is_the_one_that_is_written(tmp_path: Path) -> None:
    assert again(model_of(in_chans=1), tmp_path).preprocess.in_chans == 1


def test_converting_our_own_file_keeps_recipe_and_metrics(saved: Path, tmp_path: Path) -> None:
    hybridvit.convert(saved, tmp_path / "same.safetensors")
    found = read_checkpoint(tmp_path / "same.safetensors")
    assert (found.recipe, found.origin, found.metrics) == (RECIPE, ORIGIN, METRICS)
    assert found.label_names == ["a", "b", "c"]
    for changes in ({"image_size": (64, 64)}, {"in_chans": 1}, {"num_classes": 5, "new_head": True}):
        hybridvit.convert(saved, tmp_path / "other.safetensors", **changes)
        found = read_checkpoint(tmp_path / "other.safetensors")
        assert (found.recipe, found.metrics) == (RECIPE, None)  # metrics of another model


def test_files_of_classifiers_say_what_they_always_said(saved: Path) -> None:
    with safe_open(saved, framework="np") as file:
        header = json.loads(file.metadata()["hybridvit"])
    assert list(header) == [
        *("format", "architecture", "num_classes", "model_args", "label_names"),
        *("recipe", "origin", "metrics", "pretrained_cfg"),
    ]


# ---- weights that are no numbers --------------------------------------------------------------------------------------------


@pytest.fixture(params=["nan", "inf"])
def non_finite(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    model = model_of()
    with torch.no_grad():
        model.stages[1].blocks[0].mlp.fc1.bias[3] = float(request.param)
    hybridvit.save(model, tmp_path / "non_finite.safetensors", label_names=["a", "b", "c"])
    return tmp_path / "non_finite.safetensors"


def test_a_file_of_weights_that_are_not_finite_is_refused_with_the_tensors_name(non_finite: Path) -> None:
    for door in (hybridvit.load, read_checkpoint):
        with pytest.raises(CheckpointError, match=r"stages\.1\.blocks\.0\.mlp\.fc1\.bias holds .* NaN or infinite"):
            door(non_finite)


def test_such_a_file_opens_for_those_who_ask(non_finite: Path) -> None:
    model: Any = hybridvit.load(non_finite, allow_non_finite=True)
    assert not model.stages[1].blocks[0].mlp.fc1.bias.isfinite().all()


@pytest.mark.parametrize("command", ["predict", "eval", "export", "explain"])
def test_every_command_refuses_it(
    non_finite: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    from hybridvit.cli.main import main

    (tmp_path / "test" / "a").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(tmp_path / "test" / "a" / "x.png")
    arguments = {
        "predict": [str(tmp_path / "test" / "a" / "x.png")],
        "eval": ["--data", str(tmp_path)],
        "export": ["--to", "onnx", "--out", str(tmp_path / "x.onnx")],
        "explain": [str(tmp_path / "test" / "a" / "x.png"), "--out", str(tmp_path / "out")],
    }
    assert main([command, str(non_finite), *arguments[command]]) == 2
    assert "NaN or infinite" in capsys.readouterr().err
    assert not (tmp_path / "x.onnx").exists()


def test_large_numbers_of_half_precision_are_finite(tmp_path: Path) -> None:
    model = model_of().half()
    with torch.no_grad():
        model.head.weight.fill_(60_000)  # whose sum is not
    hybridvit.save(model, tmp_path / "x.safetensors")
    assert hybridvit.load(tmp_path / "x.safetensors").head.weight.max() == 60_000
