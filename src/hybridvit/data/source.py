"""What every reader offers: pictures with their targets, by number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Target = Any
"""What a picture's annotation says, by task: a class number, numbers of several classes, boxes and masks. Numbers count
from 0. Plain Python, tensors or torchvision's tv_tensors; it travels between processes."""


class Source(Protocol):
    """Labelled pictures: a folder, a list file, an archive. Files are opened lazily: sources travel to workers.

    Readers inherit from it, for `target`.
    """

    class_names: tuple[str, ...]
    labels: Sequence[int]

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """The picture's path, for messages and tables."""

    def read(self, index: int) -> bytes:
        """The undecoded file. Raises: OSError."""

    def target(self, index: int) -> Target:
        """What is to be learnt of the picture: here, the number of its class."""
        return self.labels[index]


@dataclass(frozen=True)
class Splits:
    """Pictures to learn from and pictures to be judged on, with the same classes."""

    train: Source
    test: Source
