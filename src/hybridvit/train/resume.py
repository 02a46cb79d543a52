"""Whose folder it is, and whether the run in it is the one to go on with."""

import fcntl
import os
import shutil
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.optim import Optimizer

from hybridvit.config import Recipe, recipe_from_dict
from hybridvit.data.source import Splits
from hybridvit.errors import CheckpointError, ConfigError, TrainingError
from hybridvit.train.ema import Ema
from hybridvit.train.shard import fill, is_sharded


def claim(out: Path) -> IO[str]:
    """Make the folder, prove that it can be written, and keep other processes out until the file is closed.

    Raises:
        TrainingError: the folder cannot be written, or is in use.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".lock").open("w")
    except OSError as error:
        raise TrainingError(f"{out} cannot be written: {error.strerror}. Choose another folder with --out.") from error
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock, not inherited by workers that outlive a kill
    except OSError:
        lock.close()
        raise TrainingError(f"Another process is training in {out}. Wait for it, or choose another --out.") from None
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def check_room(out: Path, model: nn.Module, *, has_ema: bool) -> None:
    """Raise TrainingError when the disk cannot hold three states (two kept, one being written) and two exports."""
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    needed = 3 * weights * (3 + has_ema) + 2 * weights
    free = shutil.disk_usage(out).free
    if free < needed:
        raise TrainingError(
            f"{out} has {free / 1e6:.0f} MB left; this run's states and weights take {needed / 1e6:.0f} MB. "
            "Make room, or choose another folder with --out."
        )


def check_same_run(saved: dict[str, Any], recipe: Recipe, splits: Splits, *, device_batch: int, out: Path) -> None:
    """Refuse to go on with another recipe or other pictures; how the run is carried out may differ.

    Raises:
        ConfigError: every difference that changes what is computed.
    """
    began = recipe_from_dict(saved["recipe"], source=f"The recipe saved in {out}")  # of an older version, perhaps
    old, new = _flat(began.to_dict()), _flat(recipe.to_dict())
    old["device_batch"], new["device_batch"] = saved["device_batch"], device_batch
    changed = [
        f"  {key}: {old.get(key)!r} when it began, now {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not key.startswith(("run.", "about."))
    ]
    if changed:
        raise ConfigError(
            f"{out} cannot be resumed with another recipe:\n"
            + "\n".join(changed)
            + "\nGive the values it began with, or start anew in another folder (--out)."
        )
    if saved["class_names"] != list(splits.train.class_names) or saved["num_images"] != len(splits.train):
        raise ConfigError(
            f"{out} began with {saved['num_images']} training pictures in {len(saved['class_names'])} classes; the "
            f"data set now has {len(splits.train)} in {len(splits.train.class_names)}. Restore it, or start anew."
        )


def restore(
    saved: dict[str, Any],
    *,
    model: nn.Module,
    optimizer: Optimizer,
    ema: Ema | None,
    scaler: torch.amp.GradScaler,
) -> None:
    """Load the tensors of Run.state(). Raises CheckpointError when another version's model wrote them."""
    try:
        if "pieces" in saved or is_sharded(model):
            fill(saved, model=model, optimizer=optimizer, ema=ema.model if ema else None)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        scaler.load_state_dict(saved["scaler"])
        if ema:
            ema.model.load_state_dict(saved["ema"])
    except (RuntimeError, ValueError, KeyError, CheckpointException) as error:
        raise CheckpointError(f"The saved state does not fit this version's model: {error}") from error


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in values.items():
        result |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return result
