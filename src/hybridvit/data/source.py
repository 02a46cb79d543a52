"""What every reader offers: pictures with their targets, by number."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from PIL.Image import Image

Target = Any
"""What a picture's annotation says, by task: a class number, numbers of several classes, boxes and masks. Numbers count
from 0. Plain Python, tensors or torchvision's tv_tensors; it travels between processes."""


@dataclass(frozen=True)
class Counts:
    """What a reader met. Every file or line is in one of the two: taken, or passed over for a reason."""

    taken: int = 0
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """How many, by reason: hidden, no picture (.txt), beside the class folders ..."""
    notes: tuple[str, ...] = ()
    """Decisions that were made for the user, in sentences."""

    @property
    def seen(self) -> int:
        return self.taken + sum(self.passed_over.values())

    @property
    def reasons(self) -> str:
        return ", ".join(f"{number} {reason}" for reason, number in self.passed_over.items())

    def __str__(self) -> str:
        said = f"{self.taken} pictures of {self.seen} seen" + (f"; passed over: {self.reasons}" if self.reasons else "")
        return ". ".join((said, *self.notes))

    def to_dict(self) -> dict[str, Any]:
        notes = {"notes": list(self.notes)} if self.notes else {}
        return {"seen": self.seen, "taken": self.taken, "passed_over": dict(self.passed_over), **notes}

    @classmethod
    def total(cls, several: Iterable["Counts"]) -> "Counts":
        several = list(several)
        reasons: Counter[str] = Counter()
        for counts in several:
            reasons.update(counts.passed_over)
        notes = dict.fromkeys(note for counts in several for note in counts.notes)
        return cls(sum(counts.taken for counts in several), dict(reasons), tuple(notes))


class Source(Protocol):
    """Labelled pictures: a folder, a list file, an archive. Files are opened lazily: sources travel to workers.

    Readers inherit from it, for `target`.
    """

    class_names: tuple[str, ...]
    labels: Sequence[int]
    counts: Counts = Counts()

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """The picture's path, for messages and tables."""

    def read(self, index: int) -> bytes | Image:
        """The undecoded file, or a picture that was in memory already. Raises: OSError."""

    def target(self, index: int) -> Target:
        """What is to be learnt of the picture: here, the number of its class."""
        return self.labels[index]


@dataclass(frozen=True)
class Splits:
    """Pictures to learn from and pictures to be evaluated on, with the same classes."""

    train: Source
    test: Source

    def summary(self) -> str:
        """What was seen, taken and passed over, a line for each part."""
        return f"train: {self.train.counts}\ntest: {self.test.counts}"

    def to_dict(self) -> dict[str, Any]:
        """The same by part."""
        return {"train": self.train.counts.to_dict(), "test": self.test.counts.to_dict()}
