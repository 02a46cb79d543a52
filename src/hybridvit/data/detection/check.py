"""What is to be known of pictures with boxes before they are learnt from: counts, what was mended, what cannot be used."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hybridvit.data.source import Source
from hybridvit.errors import DataError
from hybridvit.output import Described, Table


@dataclass(frozen=True, kw_only=True)
class BoxReport(Described):
    classes: tuple[str, ...]
    pictures: dict[str, int]
    objects: dict[str, list[int]]
    """Per class of every part; regions of many objects are not among them."""
    crowds: dict[str, int]
    most: int
    """Objects on one picture."""
    notes: dict[str, tuple[str, ...]]
    """What was mended when a part was opened, with counts."""
    problems: list[str]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def describe(self) -> list[str | Table]:
        parts = list(self.pictures)
        rows: list[list[object]] = [
            [name, *(self.objects[part][k] for part in parts)] for k, name in enumerate(self.classes)
        ]
        rows += [["crowds", *self.crowds.values()], ["pictures", *self.pictures.values()]]
        blocks: list[str | Table] = [Table(["objects of class", *(part or "all" for part in parts)], rows)]
        blocks.append(f"At most {self.most} objects on a picture.")
        blocks += [f"{part or 'all'}: {note}" for part, notes in self.notes.items() for note in notes]
        return [*blocks, *(f"Problem: {problem}" for problem in self.problems)]


def check_boxes(parts: Mapping[str, Source], *, on_progress: Callable[[int], None] = lambda _: None) -> BoxReport:
    """Look at every picture's header and objects. What `tidy` refuses has been refused when the parts were opened."""
    class_names = tuple(next(iter(parts.values())).class_names)
    objects, crowds, problems = dict[str, list[int]](), dict[str, int](), list[str]()
    seen: dict[bytes, tuple[str, str]] = {}
    most = done = 0
    for part, source in parts.items():
        labels, count = [np.zeros(0, dtype=np.int64)], 0
        for index in range(len(source)):
            try:
                target = source.target(index)
            except (DataError, OSError) as error:
                problems.append(str(error))
            else:
                labels.append(target.labels_N[~target.crowd_N].numpy())
                count += int(target.crowd_N.sum())
                most = max(most, len(target))
                _note_twin(source, index, part, seen, problems)
            done += 1
            on_progress(done)
        objects[part] = np.bincount(np.concatenate(labels), minlength=len(class_names)).tolist()
        crowds[part] = count
    return BoxReport(
        classes=class_names,
        pictures={part: len(source) for part, source in parts.items()},
        objects=objects,
        crowds=crowds,
        most=most,
        notes={part: source.counts.notes for part, source in parts.items()},
        problems=problems,
    )


def _note_twin(source: Source, index: int, part: str, seen: dict[bytes, tuple[str, str]], problems: list[str]) -> None:
    """The same file in two parts makes figures too good."""
    data = source.read(index)
    if not isinstance(data, bytes):
        return
    digest = hashlib.blake2b(data, digest_size=16).digest()
    other = seen.setdefault(digest, (part, source.name(index)))
    if other[0] != part:
        problems.append(f"{source.name(index)} is the same picture as {other[1]}, in another part.")
