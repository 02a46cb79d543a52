"""The whole state of a run on disk: saved so that no moment is a bad one to be killed at.

A state is written under a temporary name, flushed, and renamed; its sha256 stands beside it before it appears. The two
newest are kept. Reading takes the newest whose sum agrees. Learning rate, order of the pictures, augmentation, mixing
and drop path need no state: they are functions of the step.
"""

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from hybridvit.errors import CheckpointError
from hybridvit.files import replacing

KEEP = 2


@dataclass
class Counters:
    """What a run has seen so far."""

    step: int = 0
    """Optimizer steps taken, skipped ones included."""
    loss_sum: float = 0.0
    """Since the last line of metrics; so is loss_count."""
    loss_count: int = 0
    skipped: int = 0
    """Steps left out because the loss or a gradient was not finite."""
    broken: set[int] = field(default_factory=set)
    """Numbers of the training pictures that could not be read."""
    best_step: int = 0
    best: dict[str, Any] | None = None
    """Metrics of the best evaluation."""
    metrics_bytes: int = 0
    """Length of metrics.jsonl; what lies beyond is dropped on resume."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"broken": sorted(self.broken)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Counters":
        return cls(**values | {"broken": set(values["broken"])})


def save_state(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write folder/state-STEP.pt and its sha256, then drop all but the newest two.

    Raises: OSError when the disk is full or the folder cannot be written. The older states are intact then.
    """
    path = folder / f"state-{step:08d}.pt"
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:  # torch's way of passing on a failed write
                raise OSError(str(error)) from error
        with temporary.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with replacing(_sum_path(path)) as sum_file:
            sum_file.write_text(f"{digest}  {path.name}\n")
    for old in list_states(folder)[KEEP:]:
        old.unlink()
        _sum_path(old).unlink(missing_ok=True)
    return path


def list_states(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob("state-*.pt"), reverse=True)


def load_newest_state(folder: Path, warn: Callable[[str], None]) -> dict[str, Any] | None:
    """Read the newest undamaged state; None when there is none at all.

    Raises:
        CheckpointError: there are states, and every one is damaged.
    """
    paths = list_states(folder)
    for path in paths:
        problem = _problem(path)
        if problem is None:
            try:
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
    for path in folder.glob("state-*.pt.sha256"):
        if not path.with_suffix("").exists():
            path.unlink(missing_ok=True)


def _sum_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _problem(path: Path) -> str | None:
    try:
        expected = _sum_path(path).read_text().split()[0]
    except (OSError, IndexError):
        return "its .sha256 is missing"
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return None if found == expected else "its sha256 does not agree"
