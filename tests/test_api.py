"""api.py, and what else commands do: as functions."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

import hybridvit
from hybridvit import api
from hybridvit.config import load_recipe
from hybridvit.errors import CheckpointError, ConfigError, DataError, TrainingError
from hybridvit.models import catalog

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


def test_a_hugging_face_data_set_in_memory_resumes_to_the_same_bits(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["dark", "bright"])})
    data = datasets.DatasetDict(
        {
            part: datasets.Dataset.from_dict({"image": noise.pictures, "label": noise.targets}, features=features)
            for part, noise in (("train", Noise(24, 0)), ("test", Noise(8, 1)))
        }
    )
    whole = api.train("digits", data, out=tmp_path / "whole", **SHORT)
    cut = api.train("digits", data, out=tmp_path / "cut", on_step=lambda line: line["step"] == 3, **SHORT)
    assert not cut.finished
    again = api.train("digits", data, out=tmp_path / "cut", resume=True, **SHORT)
    assert (again.out / "metrics.jsonl").read_bytes() == (whole.out / "metrics.jsonl").read_bytes()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name


def test_a_run_in_a_thread_ends_in_the_same_bits(tmp_path: Path) -> None:
    data = {"train": Noise(24, 0), "test": Noise(8, 1)}
    whole = api.train("digits", data, out=tmp_path / "whole", **SHORT)
    thread = threading.Thread(target=lambda: api.train("digits", data, out=tmp_path / "thread", **SHORT))
    thread.start()
    thread.join()
    assert (tmp_path / "thread" / "metrics.jsonl").read_bytes() == (whole.out / "metrics.jsonl").read_bytes()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    hybridvit.save(catalog.create("cvt_nano", num_classes=3), tmp_path / "weights.safetensors", label_names=list("abc"))
    return tmp_path / "weights.safetensors"


@pytest.mark.parametrize(("suffix", "library"), [(".onnx", "onnxruntime"), (".xml", "openvino")])
def test_an_exported_file_is_evaluated_and_predicts_as_the_model(
    suffix: str, library: str, weights: Path, make_pictures: MakePictures
) -> None:
    pytest.importorskip(library)
    data, model = make_pictures(), hybridvit.load(weights)
    hybridvit.export(model, weights.with_suffix(suffix))
    plain, found = api.evaluate(model, data), api.evaluate(weights.with_suffix(suffix), data)
    assert found.top1 == plain.top1
    np.testing.assert_array_equal(found.confusion, plain.confusion)
    rows, expected = (hybridvit.predict(one, data / "test") for one in (weights.with_suffix(suffix), model))
    for row, one in zip(rows, expected, strict=True):
        assert row.path == one.path
        assert [each["class"] for each in row.said["predictions"]] == [e["class"] for e in one.said["predictions"]]
        for each, other in zip(row.said["predictions"], one.said["predictions"], strict=True):
            assert each["probability"] == pytest.approx(other["probability"], abs=1e-5)
    with pytest.raises(CheckpointError, match="An exported file has no weights to average"):
        api.evaluate([weights.with_suffix(suffix)] * 2, data, average="weights")


def test_several_models_and_views_are_averaged(weights: Path, make_pictures: MakePictures) -> None:
    data, model, heard = make_pictures(), hybridvit.load(weights), list[tuple[int, int]]()
    one = api.evaluate(model, data, on_batch=lambda done, total: heard.append((done, total)))
    assert heard[-1] == (18, 18)
    for average in ("weights", "answers"):
        both = api.evaluate([model, weights], data, average=average, device=None)
        np.testing.assert_array_equal(both.logits.argmax(1), one.logits.argmax(1))
        assert both.top1 == one.top1
    assert not np.array_equal(api.evaluate(model, data, flip=True).logits, one.logits)
    with pytest.raises(ConfigError, match="goes with several checkpoints"):
        api.evaluate([model, weights], data)


def test_a_picture_that_cannot_be_read_is_warned_of(weights: Path, make_pictures: MakePictures) -> None:
    data = make_pictures()
    next((data / "test" / "a").iterdir()).write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="1 pictures cannot be read and are in no figure"):
        assert api.evaluate(weights, data, device="cpu").confusion.sum() == 17


def test_checks_sweeps_reports_and_comparisons_are_functions(
    weights: Path, make_pictures: MakePictures, tmp_path: Path
) -> None:
    data = make_pictures()
    report = hybridvit.check_data(data, out=tmp_path / "check.html")
    assert report.classes == ("a", "b", "c")
    assert "train: 36 pictures" in str(report)
    assert (tmp_path / "check.html").is_file()

    written = hybridvit.write_report(weights, data, tmp_path / "report.html", pictures=0)
    assert written.path == tmp_path / "report.html"
    assert written.result.top1 == api.evaluate(weights, data).top1

    grid = tmp_path / "grid.yaml"
    grid.write_text(
        "about: {title: small, source: here, command: none, cost: seconds, status: a test}\nrecipe: digits\n"
        "set: [global_batch=12, schedule.epochs=1, schedule.warmup_epochs=0, run.workers=0]\n"
        "rows:\n  - {name: one}\n  - {name: two, set: [seed=2]}\n"
    )
    done = hybridvit.sweep(grid, data, out=tmp_path / "sweep", device="cpu")
    assert done.finished
    assert done.to_frame()["top1"].tolist() == [
        row["top1"] for row in json.loads((done.out / "table.json").read_text())
    ]
    assert "<table" in done._repr_html_()

    runs = hybridvit.compare_runs([done.out / "01-one", done.out / "02-two"])
    assert list(runs.to_frame()["run"]) == ["01-one", "02-two"]
    assert dict(runs.to_dict()["differences"])["seed"] == [0, 2]
    assert "<table" in runs._repr_html_()


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
