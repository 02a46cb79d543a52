"""Weights and states are written before anything that may fail, and what fails loses no work."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

from hybridvit.training import evaluation
from hybridvit.training.loop import fit
from hybridvit.training.state import list_states
from hybridvit.training.trainer import Trainer
from hybridvit.weights.load import load, read_checkpoint

PrepareRun = Callable[..., Trainer]


def test_an_evaluation_that_fails_loses_nothing_and_is_made_up_for(
    prepare_run: PrepareRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepare_run("whole")
    fit(whole)
    run = prepare_run("run", ["run.save_minutes=60"])
    with monkeypatch.context() as patch:

        def fail(*_: object, **__: object) -> None:
            raise MemoryError("evaluation")

        patch.setattr(evaluation, "stream", fail)
        with pytest.raises(MemoryError):
            fit(run)
    assert [path.name for path in list_states(run.out)] == ["state-00000006.pt"]
    again = prepare_run("run", ["run.save_minutes=60"], resume=True)
    assert again.counters.step == 6
    assert again.evaluation_due
    fit(again)
    assert (run.out / "metrics.jsonl").read_bytes() == (whole.out / "metrics.jsonl").read_bytes()
    for name in ("best", "last"):
        expected = read_checkpoint(whole.out / f"{name}.safetensors").state
        found = read_checkpoint(run.out / f"{name}.safetensors").state
        assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())


def test_a_page_that_fails_is_reported_and_the_weights_are_there(
    prepare_run: PrepareRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed")

    monkeypatch.setattr(evaluation, "save_page", fail)
    said = io.StringIO()
    run = prepare_run("run", ["schedule.epochs=2"], console=Console(file=said, width=200))
    fit(run)
    assert "Warning: 'utf-8' codec can't encode character" in said.getvalue()
    assert (run.out / "last.safetensors").is_file()
    again = prepare_run("run", ["schedule.epochs=2"], resume=True)
    assert not again.evaluation_due
    again.close()


def test_a_class_whose_name_is_no_utf8_trains_to_the_end(
    prepare_run: PrepareRun, make_pictures: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_pictures("odd", classes=("a", "b"))
    for split in ("train", "test"):
        (folder / split / "b").rename(folder / split / "caf\udce9")
    (folder / "train" / "caf\udce9" / "003.png").write_bytes(b"no picture")
    said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    run = prepare_run("run", ["schedule.epochs=2"], data=folder, console=Console(file=said, width=200))
    fit(run)
    names = {path.name for path in run.out.iterdir()}
    assert {"best.safetensors", "last.safetensors", "state-00000004.pt", "logits.npz"} <= names
    assert load(run.out / "last.safetensors").label_names == ["a", r"caf\udce9"]


def test_metrics_hold_no_nan(prepare_run: PrepareRun) -> None:
    run = prepare_run("run", ["run.log_steps=1", "schedule.epochs=2", "mix.mixup=0", "mix.cutmix=0", "ema.decay=0"])
    calls = []

    def once(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        calls.append(run.model.training)
        return (inputs[0] * (torch.nan if len(calls) == 2 else 1.0),)

    run.model.register_forward_pre_hook(once)
    fit(run)
    lines = [
        json.loads(line, parse_constant=pytest.fail) for line in (run.out / "metrics.jsonl").read_text().splitlines()
    ]
    assert [line["grad_norm"] is None for line in lines if "grad_norm" in line].count(True) == 1


def test_several_losses_are_written_by_name_and_go_on_after_a_stop(prepare_run: PrepareRun) -> None:
    def two_losses(run: Trainer) -> Trainer:
        real = run.criterion
        run.criterion = lambda *given: {"class": 0.75 * (loss := real(*given)["loss"]), "box": 0.25 * loss}  # type: ignore
        return run

    options = ["run.log_steps=5", "run.eval_epochs=4"]
    whole = two_losses(prepare_run("whole", options))
    fit(whole)
    lines = [json.loads(line) for line in (whole.out / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["class"] + lines[0]["box"] == pytest.approx(lines[0]["loss"])
    cut = two_losses(prepare_run("cut", options))
    fit(cut, on_step=lambda line: line["step"] == 7)
    fit(two_losses(prepare_run("cut", options, resume=True)))
    assert (cut.out / "metrics.jsonl").read_bytes() == (whole.out / "metrics.jsonl").read_bytes()
