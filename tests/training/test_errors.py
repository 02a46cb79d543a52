"""Full disks, dead workers, full devices: survived, or said in words that lead on."""

import io
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch.utils.data import get_worker_info

from hybridvit.errors import TrainingError
from hybridvit.training import checkpointer, state
from hybridvit.training.loop import fit
from hybridvit.training.state import list_states
from hybridvit.training.trainer import Trainer

PrepareRun = Callable[..., Trainer]


def test_a_disk_that_fills_up_is_reported_and_training_goes_on(
    prepare_run: PrepareRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_save = checkpointer.save_state

    def save(folder: Path, step: int, values: dict[str, Any]) -> Path:
        if step == 5:
            raise OSError(28, "No space left on device")
        return real_save(folder, step, values)

    monkeypatch.setattr(checkpointer, "save_state", save)
    said = io.StringIO()
    run = prepare_run("run", console=Console(file=said, width=200))
    fit(run)
    assert "step 5 is not saved ([Errno 28] No space left on device). Make room in" in said.getvalue()
    assert run.counters.step == 12


def test_metrics_that_a_full_disk_did_not_take_are_written_later(
    prepare_run: PrepareRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(prepare_run("whole"))
    said = io.StringIO()
    run = prepare_run("full", ["run.save_minutes=60"], console=Console(file=said, width=200))
    real_sync = os.fsync
    calls: list[int] = []

    def sync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real_sync(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    fit(run)
    assert "metrics.jsonl cannot be written ([Errno 28] No space left on device)" in said.getvalue()
    whole = run.out.with_name("whole") / "metrics.jsonl"
    assert (run.out / "metrics.jsonl").read_bytes() == whole.read_bytes()


def test_a_write_that_fails_halfway_keeps_the_older_states(
    prepare_run: PrepareRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepare_run("run")
    fit(run)
    before = {path: path.read_bytes() for path in list_states(run.out)}

    def fail(*_: object) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="file write failed"):
        state.save_state(run.out, 99, {})
    assert {path: path.read_bytes() for path in list_states(run.out)} == before
    assert not list(run.out.glob(".*.pt*"))


def test_too_small_a_disk_is_found_before_training(prepare_run: PrepareRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(TrainingError, match=r"has 1 MB left; this run's states and weights take \d+ MB"):
        prepare_run("run")


class KillTheWorker:
    """A transform that does what the kernel does when memory is full."""

    def __call__(self, picture: object, target: object) -> torch.Tensor:
        assert get_worker_info()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_dead_worker_is_named_with_the_way_on(prepare_run: PrepareRun) -> None:
    run = prepare_run("run", ["run.workers=2"])
    run.loader.dataset.transform = KillTheWorker()  # type: ignore[attr-defined]
    with pytest.raises(TrainingError, match=r"(?s)process that loads pictures died.*--set run\.workers=1.*--resume"):
        fit(run)


def test_out_of_memory_suggests_accumulation_with_numbers(prepare_run: PrepareRun) -> None:
    run = prepare_run("run", ["global_batch=24", "device_batch=12"])

    def fill(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    run.model.register_forward_pre_hook(fill)
    with pytest.raises(TrainingError) as error:
        fit(run)
    message = str(error.value)
    assert "out of memory at device_batch 12" in message
    assert "--set device_batch=6 accumulates 4 passes per step: the batch of 24" in message
    assert "--set model.grad_checkpointing=true" in message
