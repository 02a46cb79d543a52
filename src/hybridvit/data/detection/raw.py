"""What an annotation file says, before it is believed. The readers make it, `tidy` checks it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hybridvit.errors import DataError


@dataclass(slots=True)
class RawObject:
    where: str
    """For messages: annotation 17, line 3."""
    category: Any
    """A key of RawPictures.categories."""
    box: tuple[float, float, float, float]
    """Left, top, right, bottom, as read."""
    outline: Any = None
    """COCO's segmentation as it stands: polygons, runs, or nonsense."""
    crowd: bool = False
    area: float | None = None


@dataclass(slots=True)
class RawPicture:
    name: str
    """As the file spells it, / between folders, from `folder` on."""
    size: tuple[int, int] | None = None
    """Rows and columns, where the file says so."""
    objects: list[RawObject] = field(default_factory=list)


@dataclass
class RawPictures:
    file: Path
    """For messages: the annotation file, or the folder of them."""
    folder: Path
    """Below which the pictures lie."""
    categories: dict[Any, str]
    """Names by what stands for them in the file, in the file's order."""
    pictures: list[RawPicture]
    unit: bool = False
    """Boxes and outlines are shares of the sides, not pixels."""
    findings: "Findings" = field(default_factory=lambda: Findings())


class Findings:
    """What was found wrong: mended and counted, or fatal. Kept with the first examples of each kind."""

    MOST = 3

    def __init__(self) -> None:
        self.mended: Counter[str] = Counter()
        self.fatal: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def mend(self, what: str, where: str = "", count: int = 1) -> None:
        """what: in the past, as in "boxes reaching over the border: cut at it"."""
        self._count(self.mended, what, where, count)

    def refuse(self, what: str, where: str = "") -> None:
        """what: the fault, and what to do."""
        self._count(self.fatal, what, where, 1)

    def _count(self, counter: Counter[str], what: str, where: str, count: int) -> None:
        counter[what] += count
        examples = self.examples.setdefault(what, [])
        if where and len(examples) < self.MOST:
            examples.append(where)

    def add(self, others: Iterable["Findings"]) -> None:
        for other in others:
            for mine, theirs in ((self.mended, other.mended), (self.fatal, other.fatal)):
                for what, count in theirs.items():
                    self._count(mine, what, "", count)
                    self.examples[what] = (self.examples[what] + other.examples[what])[: self.MOST]

    def raise_if_fatal(self, file: Path) -> None:
        """Raises: DataError that names every kind of fault, how often it occurs, and where first."""
        if self.fatal:
            lines = [f"  {self.line(what, count)}" for what, count in self.fatal.items()]
            raise DataError("\n".join((f"{file} cannot be trained on as it is:", *lines)))

    def notes(self) -> list[str]:
        return [self.line(what, count) for what, count in self.mended.items()]

    def line(self, what: str, count: int) -> str:
        examples = self.examples[what]
        more = ", ..." if count > len(examples) else ""
        return f"{count} {what}" + (f" ({', '.join(examples)}{more})" if examples else "")
