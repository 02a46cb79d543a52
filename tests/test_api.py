"""api.py: what the commands do, as functions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import Dataset

from hybridvit import api
from hybridvit.config import load_recipe
from hybridvit.errors import ConfigError, DataError, TrainingError

MakePictures = Callable[..., Path]
SHORT: dict[str, Any] = {
    "global_batch": 12,
    "schedule": {"epochs": 2, "warmup_epochs": 0},
    "run": {"workers": 0, "eval_epochs": 1},
    "device": "cpu",
}


class Noise(Dataset[tuple[Image.Image, int]]):
    """Pictures in memory, brighter by class."""

    classes = ("dark", "bright")

    def __init__(self, count: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.targets = [i % 2 for i in range(count)]
        self.pictures = [
            Image.fromarray(rng.integers(150 * label, 150 * label + 100, size=(20, 20, 3), dtype=np.uint8))
            for label in self.targets
        ]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return self.pictures[index], self.targets[index]


def test_a_run_has_its_model_metrics_best_and_report_and_shows_itself(
    make_pictures: MakePictures, tmp_path: Path
) -> None:
    data = make_pictures()
    run = api.train("digits", data, out=tmp_path / "run", optimizer={"lr": 1e-3}, seed=3, **SHORT)
    assert run.finished
    assert run.recipe.optimizer.lr == 1e-3
    assert run.recipe.optimizer.weight_decay == load_recipe("digits").optimizer.weight_decay
    assert run.recipe.seed == 3
    assert run.best is not None
    assert run.metrics["step"].tolist()[-1] == 6
    assert run.report().read_text().startswith("<!")
    assert "top-1" in str(run)
    assert "<table" in run._repr_html_()

    result = api.evaluate(run.model, data)
    assert result.top1 == run.best["top1"]
    assert set(result.per_class) == {"a", "b", "c"}
    assert result.confusion.sum() == 18
    assert len(result.to_frame()) == 3
    assert api.evaluate(tmp_path / "run" / "best.safetensors", data, device="cpu").top1 == result.top1


def test_a_run_that_a_callback_stopped_goes_on_to_the_same_bits(make_pictures: MakePictures, tmp_path: Path) -> None:
    data = make_pictures()
    whole = api.train("digits", data, out=tmp_path / "whole", **SHORT)
    cut = api.train("digits", data, out=tmp_path / "cut", on_step=lambda line: line["step"] == 2, **SHORT)
    assert (cut.step, cut.finished) == (2, False)
    with pytest.raises(DataError, match="written at the end of a run; this one is at step 2 of 6"):
        cut.report()
    with pytest.raises(TrainingError, match="already holds a run"):
        api.train("digits", data, out=tmp_path / "cut", **SHORT)
    again = api.train("digits", data, out=tmp_path / "cut", resume=True, **SHORT)
    assert again.finished
    assert (again.out / "metrics.jsonl").read_bytes() == (whole.out / "metrics.jsonl").read_bytes()


def test_pictures_in_memory_train_evaluate_and_resume(tmp_path: Path) -> None:
    data = {"train": Noise(24, 0), "test": Noise(8, 1)}
    whole = api.train("digits", data, out=tmp_path / "whole", **SHORT)
    api.train("digits", data, out=tmp_path / "cut", on_epoch=lambda line: line["epoch"] == 1, **SHORT)
    again = api.train("digits", data, out=tmp_path / "cut", resume=True, **SHORT)
    assert (again.out / "metrics.jsonl").read_bytes() == (whole.out / "metrics.jsonl").read_bytes()
    assert whole.best is not None
    assert api.evaluate(whole.model, data).top1 == whole.best["top1"]
    with pytest.raises(ConfigError, match="began with other training pictures"):
        api.train("digits", {**data, "train": Noise(24, 5)}, out=tmp_path / "cut", resume=True, **SHORT)


def test_a_mistake_in_a_change_names_the_nearest_field(make_pictures: MakePictures, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.rate: unknown; the nearest known is optimizer\."):
        api.train("digits", make_pictures(), out=tmp_path / "run", optimizer={"rate": 1})
    with pytest.raises(ConfigError, match="optimizer: expected settings"):
        api.train("digits", tmp_path, out=tmp_path / "run", optimizer=3)


def test_a_loaded_model_is_evaluated_where_it_is(make_pictures: MakePictures, tmp_path: Path) -> None:
    data = make_pictures()
    run = api.train("digits", data, out=tmp_path / "run", **SHORT)
    run.model.train()
    api.evaluate(run.model, data)
    assert run.model.training
    with pytest.raises(DataError, match="device is for weights files"):
        api.evaluate(run.model, data, device="cpu")
    other = make_pictures("other", classes=("a", "b", "z"))
    with pytest.raises(DataError, match="z"):
        api.evaluate(run.model, other)
