"""Metrics sent to TensorBoard, wandb or trackio, beside metrics.jsonl. All write to this machine only.

tensorboard    RUN/tensorboard/           tensorboard --logdir RUN
wandb          RUN/wandb/, offline        wandb sync RUN/wandb/offline-run-*   (WANDB_MODE=online sends at once)
trackio        its own folder             trackio show --project hybridvit
"""

import importlib
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from hybridvit.errors import ConfigError

PROJECT = "hybridvit"


class Sink(Protocol):
    """Hears every line of metrics."""

    def log(self, values: Mapping[str, float], *, step: int) -> None: ...

    def close(self) -> None: ...


def open_sinks(names: Sequence[str], folder: Path, recipe: Mapping[str, Any], *, step: int = 0) -> list[Sink]:
    """Begin, or go on at `step`, the records of the run in `folder`.

    Raises: ConfigError when a library is not installed.
    """
    return [SINKS[name](folder, recipe, step) for name in names]


class TensorBoard:
    def __init__(self, folder: Path, recipe: Mapping[str, Any], step: int) -> None:
        _library("tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        # What an interrupted run wrote beyond the state it resumes from is hidden.
        self.writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class Wandb:
    def __init__(self, folder: Path, recipe: Mapping[str, Any], step: int) -> None:
        wandb = _library("wandb")
        id_file = folder / ".wandb-id"
        if not id_file.exists():
            id_file.write_text(uuid.uuid4().hex[:12])
        self.run = wandb.init(
            project=PROJECT,
            name=folder.name,
            id=id_file.read_text().strip(),
            resume="allow",
            dir=str(folder),
            config=dict(recipe),
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=wandb.Settings(silent=True),
        )

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()


class Trackio:
    def __init__(self, folder: Path, recipe: Mapping[str, Any], step: int) -> None:
        trackio = _library("trackio")
        self.run = trackio.init(project=PROJECT, name=folder.name, config=dict(recipe), resume="allow", embed=False)

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()


EXTRAS = {"tensorboard": "track", "wandb": "wandb", "trackio": "trackio"}
SINKS: dict[str, Any] = {"tensorboard": TensorBoard, "wandb": Wandb, "trackio": Trackio}


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"run.track: {name} is not installed: pip install 'hybridvit[{EXTRAS[name]}]'") from error
