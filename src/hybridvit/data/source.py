"""What every reader offers: labelled pictures by number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Source(Protocol):
    """Labelled pictures: a folder, a list file, an archive. Files are opened lazily: sources travel to workers."""

    class_names: tuple[str, ...]
    labels: Sequence[int]

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """The picture's path, for messages and tables."""

    def read(self, index: int) -> bytes:
        """The undecoded file. Raises: OSError."""


@dataclass(frozen=True)
class Splits:
    """Pictures to learn from and pictures to be judged on, with the same classes."""

    train: Source
    test: Source
