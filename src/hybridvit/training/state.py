"""The whole state of a run on disk: saved so that no moment is a bad one to be killed at.

A state is a file, state-STEP.pt, or where the ranks share out the weights a folder, state-STEP/ (shard.py). It is
written under a temporary name, flushed, and renamed; its sha256 is there before it appears. The two newest are kept.
Reading takes the newest whose sum agrees. Learning rate, order of the pictures, augmentation, mixing and drop path need
no state: they are functions of the step.
"""

import pickle
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from hybridvit.errors import CheckpointError
from hybridvit.files import digest, replacing
from hybridvit.runtime import ALONE, Ranks

KEEP = 2
REST = "rest.pt"
SUMS = "sha256"


@dataclass
class Counters:
    """What a run has seen so far."""

    step: int = 0
    """Optimizer steps taken, skipped ones included."""
    loss_sum: float = 0.0
    """Since the last line of metrics; so is loss_count."""
    loss_count: int = 0
    loss_parts: dict[str, float] = field(default_factory=dict)
    """The same by name, where a task has several losses."""
    skipped: int = 0
    """Steps left out because the loss or a gradient was not finite."""
    broken: set[int] = field(default_factory=set)
    """Numbers of the training pictures that could not be read."""
    rescaled: int = 0
    """Steps left out while float16's scale was looking for its value."""
    evaluated: int = 0
    """The step whose weights were evaluated last."""
    best_step: int = 0
    best: dict[str, Any] | None = None
    """Metrics of the best evaluation."""
    metrics_bytes: int = 0
    """Length of metrics.jsonl; what lies beyond is dropped on resume."""

    def add_losses(self, losses: Mapping[str, float]) -> None:
        """Count a step's losses, by name."""
        self.loss_sum += sum(losses.values())
        self.loss_count += 1
        if len(losses) > 1:
            self.loss_parts = {name: self.loss_parts.get(name, 0.0) + value for name, value in losses.items()}

    def mean_losses(self) -> dict[str, float | None]:
        """Since the last call; the parts, too, where there are several."""
        means = {"loss": self.loss_sum / self.loss_count if self.loss_count else None}
        means |= {name: total / self.loss_count for name, total in self.loss_parts.items()}
        self.loss_sum, self.loss_parts, self.loss_count = 0.0, {}, 0
        return means

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"broken": sorted(self.broken)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Counters":
        # A state of 0.1 was saved after its step's evaluation.
        return cls(**{"evaluated": values["step"], **values, "broken": set(values["broken"])})


def save_state(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write folder/state-STEP.pt and its sha256, then drop all but the newest two.

    Raises: OSError when the disk is full or the folder cannot be written. The older states are intact then.
    """
    path = folder / f"state-{step:08d}.pt"
    with replacing(path) as temporary:
        save_file(state, temporary)
        with replacing(_sum_path(path)) as sum_file:
            sum_file.write_text(f"{digest(temporary)}  {path.name}\n")
    drop_old_states(folder)
    return path


def save_file(state: dict[str, Any], path: Path) -> None:
    """torch.save. Raises: OSError."""
    with path.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # torch's way of passing on a failed write
            raise OSError(str(error)) from error


def list_states(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted([*folder.glob("state-*.pt"), *folder.glob("state-*/")], reverse=True)


def drop_old_states(folder: Path) -> None:
    for old in list_states(folder)[KEEP:]:
        remove_state(old)


def remove_state(path: Path) -> None:
    """Remove a state, whole or not, that may not be there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
        _sum_path(path).unlink(missing_ok=True)


def load_newest_state(folder: Path, warn: Callable[[str], None], ranks: Ranks = ALONE) -> dict[str, Any] | None:
    """Read the newest undamaged state; None when there is none at all. Of a folder, all but the tensors: see "pieces".

    Raises:
        CheckpointError: there are states, and every one is damaged.
    """
    paths = ranks.gather(list_states(folder))[0]
    for path in paths:
        problem = next(filter(None, ranks.gather(_problem(path, ranks))), None)
        if problem is None:
            try:
                if path.is_dir():
                    return torch.load(path / REST, map_location="cpu", weights_only=True) | {"pieces": path}
                return torch.load(path, map_location="cpu", weights_only=True)
            except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
                problem = str(error).splitlines()[0]
        warn(f"{path} is damaged ({problem}): falling back to the one before.")
    if paths:
        raise CheckpointError(f"Every saved state in {folder} is damaged. Start again in another folder (--out).")
    return None


def sweep(folder: Path) -> None:
    """Remove what a killed run left half-written."""
    for path in [*folder.glob(".*.state-*.pt*"), *folder.glob(".*.safetensors")]:
        path.unlink(missing_ok=True)
    for path in folder.glob(".state-*"):
        remove_state(path)
    for path in folder.glob("state-*.pt.sha256"):
        if not path.with_suffix("").exists():
            path.unlink(missing_ok=True)


def _sum_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _problem(path: Path, ranks: Ranks) -> str | None:
    """What is wrong with a state, as far as this rank looks: of a folder's files each rank reads every world-th."""
    sums = path / SUMS if path.is_dir() else _sum_path(path)
    try:
        lines = [line.split() for line in sums.read_text().splitlines()]
        if not lines:
            return f"its {SUMS} is empty"
        for expected, name in lines[ranks.rank :: ranks.world] if path.is_dir() else lines:
            if digest(sums.with_name(name)) != expected:
                return f"the sha256 of {name} does not agree" if path.is_dir() else "its sha256 does not agree"
    except (OSError, ValueError) as error:
        return f"its sums cannot be checked: {error}"
    return None
