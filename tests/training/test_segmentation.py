"""Segmenters are trained by the same trainer: exact resume, several processes, files, commands."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import hybridvit
from hybridvit.cli.main import main
from hybridvit.config import load_recipe
from hybridvit.data.scenes import DigitScenes, write_scenes
from hybridvit.tasks import find_task
from hybridvit.training.loop import fit, prepare
from hybridvit.training.state import list_states

Launch = Callable[..., subprocess.CompletedProcess[str]]
ReadMetrics = Callable[[Path], list[dict[str, float]]]

SMALL = (
    "global_batch=8",
    "device_batch=4",
    "augment.ratio_range=[0.5,1.5]",
    "augment.hflip=0.5",
    "augment.photometric_distortion=true",
    "loss.dice=1.0",
    "loss.lovasz=0.5",
    "model.drop_path_rate=0.2",
    "schedule.name=poly",
    "schedule.decay_rate=0.9",
    "schedule.epochs=2",
    "schedule.warmup_epochs=0",
    "run.eval_epochs=1",
    "run.log_steps=1",
    "run.save_minutes=0",
)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, "train", DigitScenes("train", count=16))
    write_scenes(root, "valid", DigitScenes("test", count=5))
    return root


def run_of(scenes: Path, out: Path, name: str = "semantic_fpn_cmt_nano", **kwargs: Any) -> Any:
    recipe = load_recipe("segmentation_demo", [*SMALL, f"model.name={name}"])
    splits = find_task("segmentation").open_splits(scenes)
    return prepare(recipe, splits, out=out, device=torch.device("cpu"), **kwargs)


class PowerCutError(Exception):
    pass


@pytest.mark.parametrize("name", ["semantic_fpn_cmt_nano", "upernet_cmt_nano"])
def test_a_resumed_run_ends_in_the_same_bits(scenes: Path, tmp_path: Path, name: str) -> None:
    whole = run_of(scenes, tmp_path / "whole", name)
    fit(whole)
    cut = run_of(scenes, tmp_path / "cut", name)

    def stepped(step: int, _: int) -> None:
        if step == 3:
            raise PowerCutError

    cut.reporter.stepped = stepped
    with pytest.raises(PowerCutError):
        fit(cut)
    again = run_of(scenes, tmp_path / "cut", name, resume=True)
    assert again.counters.step == 2
    fit(again)
    states = [torch.load(list_states(tmp_path / each)[0], weights_only=True) for each in ("whole", "cut")]
    assert all(torch.equal(states[0]["model"][key], states[1]["model"][key]) for key in states[0]["model"])
    metrics = [(tmp_path / each / "metrics.jsonl").read_bytes() for each in ("whole", "cut")]
    assert metrics[0] == metrics[1]
    last = json.loads(metrics[0].splitlines()[-1])
    assert last["images"] == 5
    assert 0 <= last["miou"] <= 100


def test_two_processes_compute_what_one_does(
    launch: Launch, read_metrics: ReadMetrics, scenes: Path, tmp_path: Path
) -> None:
    overrides = [*SMALL, "precision=float64"]
    found = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        job = {"recipe": "segmentation_demo", "data": scenes, "out": out, "overrides": overrides}
        done = launch(job, processes=processes)
        assert done.returncode == 0, done.stderr
        found.append(read_metrics(out))
    assert len(found[0]) == len(found[1]) > 3
    for one, two in zip(*found, strict=True):
        assert one == pytest.approx(two, rel=1e-6)
    assert [line["images"] for line in found[1] if "images" in line] == [5, 5]


def test_the_learning_rate_falls_as_a_power_of_the_steps_left() -> None:
    from hybridvit.training.optim import Schedule

    recipe = load_recipe("semantic_fpn_cmt_s")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.optimizer.lr)
    schedule = Schedule(optimizer, recipe.schedule, steps_per_epoch=631)
    total = 64 * 631
    for step in (0, 1, 1000, 20_000, total - 1):
        assert schedule.set(step) == pytest.approx(2e-4 * (1 - step / total) ** 0.9, rel=1e-9)


def test_commands_train_evaluate_and_predict_from_folders(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", "segmentation_demo", "--data", str(scenes), "--out", str(out), "--set", *SMALL]) == 0
    model: Any = hybridvit.load(out / "best.safetensors")
    assert model.architecture == "semantic_fpn_cmt_nano"
    assert model.label_names[:3] == ["background", "0", "1"]
    capsys.readouterr()
    assert main(["eval", str(out / "last.safetensors"), "--data", str(scenes), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert said["miou"] == last["miou"]
    assert said["pixels"] == 5 * 64 * 64
    assert main(["eval", str(out / "last.safetensors"), "--data", str(scenes)]) == 0
    assert f"mIoU {last['miou']:.2f} %" in capsys.readouterr().out
    assert main(["report", str(out / "last.safetensors"), "--data", str(scenes), "--device", "cpu"]) == 0
    assert f"mIoU {last['miou']:.2f} %" in capsys.readouterr().out
    assert "Where it came from" in (out / "last.html").read_text(encoding="utf-8")
    with Image.open(out / "worst.png") as sheet:
        assert sheet.width > 4 * 240
    pictures = sorted(map(str, (scenes / "valid").glob("*.png")))
    drawn = tmp_path / "drawn"
    assert main(["predict", str(out / "last.safetensors"), *pictures, "--draw", str(drawn), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)["pictures"][0]["predictions"][0]
    assert sum(first["rle"]["counts"]) == 64 * 64
    assert len(list(drawn.glob("*.png"))) == 5


def test_a_model_is_not_evaluated_on_other_classes(scenes: Path, tmp_path: Path) -> None:
    names = ["background", *"0123456788"]
    model = hybridvit.create_model("semantic_fpn_cmt_nano", num_classes=11)
    hybridvit.save(model, tmp_path / "model.safetensors", label_names=[*names[:-1], "ten"])
    assert main(["eval", str(tmp_path / "model.safetensors"), "--data", str(scenes)]) == 2
