"""Runs inside other programs: callbacks, threads, another framework's worker processes."""

import multiprocessing
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from hybridvit.config import load_recipe
from hybridvit.data.opening import open_splits
from hybridvit.runtime import Ranks, joined_ranks
from hybridvit.training.loop import fit, prepare
from hybridvit.training.trainer import Trainer

PrepareRun = Callable[..., Trainer]


def test_callbacks_hear_steps_and_evaluations_and_either_can_stop(prepare_run: PrepareRun) -> None:
    heard: list[Mapping[str, Any]] = []
    run = prepare_run("run")
    fit(run, on_step=lambda line: heard.append(line), on_epoch=lambda line: line["epoch"] == 2)  # type: ignore[func-returns-value]
    assert [line["step"] for line in heard] == [1, 2, 3, 4, 5, 6]
    assert heard[0]["loss"] > 0
    again = prepare_run("run", resume=True)
    assert again.counters.step == 6
    assert not again.evaluation_due
    fit(again, on_step=lambda line: line["step"] == 8)
    last = prepare_run("run", resume=True)
    assert last.counters.step == 8
    last.close()


def test_a_run_in_a_thread_learns_what_it_learns_in_the_main_one(prepare_run: PrepareRun) -> None:
    main = prepare_run("main", ["schedule.epochs=2"])
    fit(main)
    before = signal.getsignal(signal.SIGINT)
    run = prepare_run("thread", ["schedule.epochs=2"])
    thread = threading.Thread(target=fit, args=(run,))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before
    assert run.finished
    assert (run.out / "metrics.jsonl").read_bytes() == (main.out / "metrics.jsonl").read_bytes()


def train_in_worker(data: Path, out: Path) -> None:
    recipe = load_recipe(
        "digits", ["global_batch=12", "schedule.epochs=1", "schedule.warmup_epochs=0", "run.workers=2"]
    )
    fit(prepare(recipe, open_splits(data), out=out, device=torch.device("cpu")))


def test_a_daemonic_worker_of_another_framework_loads_pictures_itself(
    make_pictures: Callable[..., Path], tmp_path: Path
) -> None:
    """Such a process may not start processes of its own."""
    worker = multiprocessing.get_context("fork").Process(
        target=train_in_worker, args=(make_pictures(), tmp_path / "run"), daemon=True
    )
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    assert (tmp_path / "run" / "last.safetensors").is_file()


def test_ranks_that_a_framework_has_brought_together_are_taken_and_left(tmp_path: Path) -> None:
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.FileStore(str(tmp_path / "store"), 1))
    try:
        with joined_ranks(torch.device("cpu")) as ranks:
            assert ranks == Ranks(0, 1)
        assert dist.is_initialized()
    finally:
        dist.destroy_process_group()


def test_one_value_per_channel_says_which_field_to_change(prepare_run: PrepareRun) -> None:
    calm = ["device_batch=1", "mix.mixup=0", "mix.cutmix=0", "preprocess.image_size=16", "model.name=cmt_nano"]
    run = prepare_run("run", [*calm, "model.args={}"])
    with pytest.raises(ValueError, match=r"one value per channel.*--set device_batch=2 or more"):
        fit(run)
