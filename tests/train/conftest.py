"""A run small enough to be trained in a second, with everything random switched on."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from hybridvit.config import load_recipe
from hybridvit.data.folder import read_splits
from hybridvit.train.run import Run
from hybridvit.train.setup import prepare

PrepareRun = Callable[..., Run]

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


@pytest.fixture
def prepare_run(make_pictures: Callable[..., Path], tmp_path: Path) -> PrepareRun:
    """prepare_run("name", overrides, ...): a Run that writes to tmp_path/name, on pictures of noise."""
    made: list[Path] = []

    def make(name: str, overrides: Sequence[str] = (), *, data: Path | None = None, **options: object) -> Run:
        if data is None:
            made.extend([] if made else [make_pictures()])
            data = made[0]
        recipe = load_recipe("digits", [*SMALL, *overrides])
        return prepare(recipe, read_splits(data), out=tmp_path / name, device=torch.device("cpu"), **options)

    return make
