"""Detectors are trained by the same trainer: exact resume, several processes, files, and a page that tells the run."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import hybridvit
from hybridvit.cli.main import main
from hybridvit.config import load_recipe
from hybridvit.data.scenes import DigitScenes, write_scenes
from hybridvit.tasks import find_task
from hybridvit.training.initial import start_from
from hybridvit.training.loop import fit, prepare
from hybridvit.training.state import list_states
from hybridvit.training.trainer import Trainer

Launch = Callable[..., subprocess.CompletedProcess[str]]
ReadMetrics = Callable[[Path], list[dict[str, float]]]

SMALL = (
    "global_batch=8",
    "device_batch=4",
    "augment.short_sides=[48,64]",
    "augment.hflip=0.5",
    "model.drop_path_rate=0.2",
    "model.args.channels=16",
    "schedule.epochs=2",
    "schedule.warmup_steps=2",
    "run.workers=0",
    "run.log_steps=1",
    "run.save_minutes=0",
)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, "train", DigitScenes("train", count=16))
    write_scenes(root, "valid", DigitScenes("test", count=5))
    return root


def run_of(scenes: Path, out: Path, name: str = "retinanet_cmt_nano", **kwargs: Any) -> Trainer:
    recipe = load_recipe("detection_demo", [*SMALL, f"model.name={name}"])
    splits = find_task("detection").open_splits(scenes)
    return prepare(recipe, splits, out=out, device=torch.device("cpu"), **kwargs)


class PowerCutError(Exception):
    pass


@pytest.mark.parametrize("name", ["retinanet_cmt_nano", "mask_rcnn_cmt_nano"])
def test_a_resumed_run_ends_in_the_same_bits(scenes: Path, tmp_path: Path, name: str) -> None:
    whole = run_of(scenes, tmp_path / "whole", name)
    fit(whole)
    cut = run_of(scenes, tmp_path / "cut", name)

    def stepped(step: int, _: int) -> None:
        if step == 3:
            raise PowerCutError

    cut.reporter.stepped = stepped  # type: ignore[method-assign]
    with pytest.raises(PowerCutError):
        fit(cut)
    again = run_of(scenes, tmp_path / "cut", name, resume=True)
    assert again.counters.step == 2
    fit(again)
    states = [torch.load(list_states(run.out)[0], weights_only=True) for run in (whole, again)]
    assert all(torch.equal(states[0]["model"][key], states[1]["model"][key]) for key in states[0]["model"])
    assert (whole.out / "metrics.jsonl").read_bytes() == (again.out / "metrics.jsonl").read_bytes()
    (*_, last) = map(json.loads, (whole.out / "metrics.jsonl").read_text().splitlines())
    assert last["images"] == 5
    assert ("mask_ap" in last) == ("rcnn" in name)


def test_two_processes_compute_what_one_does(
    launch: Launch, read_metrics: ReadMetrics, scenes: Path, tmp_path: Path
) -> None:
    overrides = [*SMALL, "precision=float64", "model.args.batchnorm=eval"]
    found = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        job = {"recipe": "detection_demo", "data": scenes, "out": out, "overrides": overrides, "batchnorm": True}
        done = launch(job, processes=processes)
        assert done.returncode == 0, done.stderr
        found.append(read_metrics(out))
    assert len(found[0]) == len(found[1]) > 3
    for one, two in zip(*found, strict=True):
        assert one == pytest.approx(two, rel=1e-6)
    assert [line["images"] for line in found[1] if "images" in line] == [5, 5]


def test_the_command_trains_from_a_folder_and_leaves_model_predictions_and_page(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", "detection_demo", "--data", str(scenes), "--out", str(out), "--set", *SMALL]) == 0
    assert "Best AP" in capsys.readouterr().out
    model: Any = hybridvit.load(out / "best.safetensors")
    assert model.architecture == "retinanet_cmt_nano"
    assert model.label_names == list("0123456789")
    with torch.no_grad():
        found = model(torch.randn(1, 3, 64, 64))
    assert found[0].keys() == {"boxes", "scores", "labels"}
    assert isinstance(json.loads((out / "predictions.coco.json").read_text()), list)
    html = (out / "report.html").read_text()
    assert "AP50" in html
    assert html.count("<img") == 2 * 5  # truth and answer of every picture


def test_a_folder_without_boxes_is_refused_with_the_layouts(tmp_path: Path) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"no boxes in a layout that is known: train/_annotations\.coco\.json"):
        find_task("detection").open_splits(tmp_path)


def test_a_share_of_one_piece_is_held_out(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "train").symlink_to(scenes / "train")
    splits = find_task("detection").open_splits(tmp_path, val_split=0.25)
    assert (len(splits.train), len(splits.test)) == (12, 4)
    names = {splits.train.name(i) for i in range(12)} | {splits.test.name(i) for i in range(4)}
    assert len(names) == 16


def test_a_detector_begins_from_a_classifiers_backbone(tmp_path: Path) -> None:
    classifier = hybridvit.create_model("cmt_nano", num_classes=7)
    hybridvit.save(classifier, tmp_path / "classifier.safetensors")
    model = hybridvit.create_model("mask_rcnn_cmt_nano", num_classes=2)
    start_from(model, tmp_path / "classifier.safetensors", say=lambda _: None)
    wanted, found = classifier.state_dict(), model.state_dict()
    shared = [name for name in wanted if f"pyramid.backbone.net.model.{name}" in found and "position" not in name]
    assert len(shared) > 100
    assert all(torch.equal(wanted[name], found[f"pyramid.backbone.net.model.{name}"]) for name in shared)
