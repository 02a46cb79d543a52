"""The folder of a run: who may write to it, and the states in it."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import IO, Any, ClassVar

from torch import nn

from hybridvit.errors import TrainingError
from hybridvit.runtime import ALONE, Ranks
from hybridvit.training.shard import save_shards
from hybridvit.training.state import list_states, load_newest_state, save_state, sweep

Folder = tuple[int, int]
"""Its device and inode, whatever the path."""


class Checkpointer:
    """Claims a folder for one run and keeps its states. Every rank has one; only the first touches the folder alone.

    Raises: TrainingError when the folder cannot be written or is in use.
    """

    def __init__(self, out: Path, *, ranks: Ranks = ALONE, say: Callable[[str], None] = print) -> None:
        self.out, self.ranks, self.say = out, ranks, say
        self.claim = Claim(out) if ranks.is_first else None
        if ranks.is_first:
            sweep(out)
        ranks.wait()  # until the folder is there

    def open(self, *, resume: bool) -> dict[str, Any] | None:
        """The newest state that is not damaged; None to begin.

        Raises:
            TrainingError: the folder holds a run that is not to be resumed.
            CheckpointError: there are states, and every one is damaged.
        """
        if resume:
            return load_newest_state(self.out, self.say, self.ranks)
        if list_states(self.out) or (self.out / "metrics.jsonl").exists():
            raise TrainingError(
                f"{self.out} already holds a run. Continue it with --resume, or choose another folder (--out)."
            )
        return None

    def check_room(self, model: nn.Module, *, has_ema: bool) -> None:
        """Raise TrainingError when the disk cannot hold three states (two kept, one being written) and two exports.

        What the folder's older states and exports take is room, too: they are replaced.
        """
        weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
        needed = 3 * weights * (3 + has_ema) + 2 * weights
        old = [*list_states(self.out), *self.out.glob("*.safetensors")]
        free = shutil.disk_usage(self.out).free + sum(map(_size, old))
        if free < needed:
            raise TrainingError(
                f"{self.out} has {free / 1e6:.0f} MB left; this run's states and weights take {needed / 1e6:.0f} MB. "
                "Make room, or choose another folder with --out."
            )

    def save(self, step: int, state: dict[str, Any], *, in_pieces: bool) -> None:
        """Every rank calls this. Raises: OSError, on one rank or all; the older states are intact then."""
        if in_pieces:
            save_shards(self.out, step, state, self.ranks)
        elif self.ranks.is_first:
            save_state(self.out, step, state)

    def close(self) -> None:
        if self.claim:
            self.claim.close()


class Claim:
    """Makes the folder, proves that it can be written, and keeps others out until it is closed: processes and threads.

    The lock of a file keeps other processes out, and unlike flock's is not inherited by workers that outlive a kill. But any
    closing of the file in this process ends it; so this process also remembers the folders that it has claimed.

    Raises: TrainingError when the folder cannot be written, or is in use.
    """

    held: ClassVar[set[Folder]] = set()
    guard = Lock()

    def __init__(self, out: Path) -> None:
        self.file: IO[bytes] | None = None
        try:
            out.mkdir(parents=True, exist_ok=True)
            found = out.stat()
            self.folder: Folder = (found.st_dev, found.st_ino)
            with self.guard:
                if self.folder in self.held:
                    raise TrainingError(f"This process is training in {out} already. Choose another folder with --out.")
                file = (out / ".lock").open("wb", buffering=0)
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    file.close()
                    raise TrainingError(
                        f"Another process is training in {out}. Wait for it, or choose another --out."
                    ) from None
                self.file = file
                self.held.add(self.folder)
            file.write(str(os.getpid()).encode())
        except OSError as error:
            self.close()
            raise TrainingError(
                f"{out} cannot be written: {error.strerror}. Choose another folder with --out."
            ) from error

    def close(self) -> None:
        """Once or more often."""
        with self.guard:
            if self.file:
                file, self.file = self.file, None
                self.held.discard(self.folder)
                file.close()


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.iterdir())
    return path.stat().st_size
