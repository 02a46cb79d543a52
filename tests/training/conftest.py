"""A run small enough to be trained in a second, with everything random switched on."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from hybridvit.config import load_recipe
from hybridvit.data.opening import open_splits
from hybridvit.training.loop import prepare
from hybridvit.training.trainer import Trainer

PrepareRun = Callable[..., Trainer]
Launch = Callable[..., subprocess.CompletedProcess[str]]
ReadMetrics = Callable[[Path], list[dict[str, float]]]

SMALL = (
    "global_batch=12",
    "device_batch=6",
    "model.drop_path_rate=0.2",
    "augment.color_jitter=0.4",
    "augment.erasing=0.5",
    "mix.mixup=0.8",
    "mix.cutmix=1.0",
    "schedule.epochs=4",
    "schedule.warmup_epochs=1",
    "run.eval_epochs=2",
    "run.log_steps=2",
    "run.save_minutes=0",
)

RANKS = (
    "precision=float64",
    "global_batch=12",
    "device_batch=3",
    "mix.mixup=0",
    "model.drop_path_rate=0.2",
    "augment.erasing=0.5",
    "schedule.epochs=4",
    "schedule.warmup_epochs=1",
    "run.eval_epochs=2",
    "run.log_steps=1",
    "run.save_minutes=0",
)


@pytest.fixture
def prepare_run(make_pictures: Callable[..., Path], tmp_path: Path) -> PrepareRun:
    """prepare_run("name", overrides, ...): a Trainer that writes to tmp_path/name, on pictures of noise."""
    made: list[Path] = []

    def make(name: str, overrides: Sequence[str] = (), *, data: Path | None = None, **options: object) -> Trainer:
        if data is None:
            made.extend([] if made else [make_pictures()])
            data = made[0]
        recipe = load_recipe("digits", [*SMALL, *overrides])
        return prepare(recipe, open_splits(data), out=tmp_path / name, device=torch.device("cpu"), **options)

    return make


def _base(run: dict[str, Any]) -> Sequence[str]:
    return () if "recipe" in run else RANKS


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    """launch({"data": ..., "out": ...}, ..., processes=2): train in several processes; ranks.py says what a run may be."""

    def start(*runs: dict[str, Any], processes: int) -> subprocess.CompletedProcess[str]:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *(launcher if processes > 1 else []), str(Path(__file__).with_name("ranks.py"))]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        arguments = [
            json.dumps([{"overrides": [*_base(run), *run.pop("overrides", ())], **run} for run in runs], default=str)
        ]
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, check=False, timeout=300, env=environment
        )

    return start


@pytest.fixture
def read_metrics() -> ReadMetrics:
    """The figures of each line of a run's metrics.jsonl."""

    def read(out: Path) -> list[dict[str, float]]:
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        return [{key: value for key, value in line.items() if value is not None} for line in lines]

    return read
