"""What would make masks teach something wrong in silence, found before anything is trained on them."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hybridvit.data.decode import decode
from hybridvit.data.mask_folders import MaskSource
from hybridvit.data.mask_objects import PaintedObjects
from hybridvit.data.masks import diagnosis, present, to_classes
from hybridvit.errors import DataError
from hybridvit.output import Described, Table

BEFORE_TRAINING = 200
"""Pairs of each part that are looked at before training, evenly spread; every other one is checked as it is read."""
SHOWN = 5
Pairs = MaskSource | PaintedObjects


@dataclass(frozen=True, kw_only=True)
class MaskReport(Described):
    seen: int
    """Pairs that were read."""
    classes: tuple[str, ...]
    reduce_zero_label: bool
    pixels: dict[str, list[int]]
    """Of each part, the pixels of each class."""
    pictures: dict[str, list[int]]
    """Of each part, the pictures in which each class occurs."""
    ignored: dict[str, float]
    """Of each part, the share of the pixels that are no class."""
    broken: list[dict[str, str]]
    """Part, name and error of every pair that cannot be used."""
    problems: list[str]
    notices: list[str]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def describe(self, most: int = 10) -> list[object]:
        """Texts and tables, for people."""
        parts = list(self.pixels)
        rule = ", 0 is no class" if self.reduce_zero_label else ""
        blocks: list[object] = [f"{self.seen} pictures with masks of {len(self.classes)} classes{rule}"]
        shares = [[100 * count / max(sum(counts), 1) for count in counts] for counts in self.pixels.values()]
        rows = [[name, *(f"{share[k]:.2f}" for share in shares)] for k, name in enumerate(self.classes)]
        blocks.append(Table(["class", *(f"% of pixels, {part}" if part else "% of pixels" for part in parts)], rows))
        if self.broken:
            lines = [entry["error"] for entry in self.broken]
            more = [f"... {len(lines) - most} more (--json lists all)"] if len(lines) > most else []
            blocks.append("\n  ".join([f"\nCannot be used ({len(lines)}):", *lines[:most], *more]))
        blocks += ["", *(f"PROBLEM: {text}" for text in self.problems), *(f"notice: {text}" for text in self.notices)]
        return blocks if self.problems else [*blocks, "No problem found."]


def check_masks(
    parts: Mapping[str, Pairs],
    *,
    most: int | None = None,
    decode_pictures: bool = True,
    on_progress: Callable[[int], None] = lambda _: None,
) -> MaskReport:
    """Read the pairs of every part, or `most` of each, evenly spread, and say what is wrong with them."""
    classes = next(iter(parts.values())).classes
    chosen = {part: _spread(len(source), most) for part, source in parts.items()}
    report = MaskReport(
        seen=sum(map(len, chosen.values())),
        classes=classes.names,
        reduce_zero_label=classes.reduce_zero_label,
        pixels={},
        pictures={},
        ignored={},
        broken=[],
        problems=[],
        notices=[],
    )
    found: set[int] = set()
    done = 0
    for part, source in parts.items():
        pixels = np.zeros(len(classes.names), dtype=np.int64)
        pictures, num_ignored = np.zeros_like(pixels), 0
        for index in chosen[part]:
            try:
                values_HW = source.values(index)
                found |= set(present(values_HW))
                numbers_HW = to_classes(values_HW, classes, name=source.mask_name(index))
                if decode_pictures:
                    decode(source.read(index), name=source.name(index))
            except (DataError, OSError) as error:
                report.broken.append({"part": part, "name": source.name(index), "error": str(error)})
            else:
                kept = numbers_HW[numbers_HW != classes.ignore]
                counts = np.bincount(kept, minlength=len(pixels))
                pixels += counts
                pictures += counts > 0
                num_ignored += numbers_HW.size - kept.size
            on_progress(done := done + 1)
        report.pixels[part], report.pictures[part] = pixels.tolist(), pictures.tolist()
        report.ignored[part] = num_ignored / max(int(pixels.sum()) + num_ignored, 1)
    if problem := diagnosis(sorted(found), classes):
        report.problems.append(problem[0].upper() + problem[1:])
    if report.broken:
        report.problems.append(f"{len(report.broken)} pairs of picture and mask cannot be used.")
    for part, pixels_of in report.pixels.items():
        where = f" of {part}" if part else ""
        if not sum(pixels_of):
            report.problems.append(f"No pixel{where} belongs to a class.")
        elif absent := [name for name, count in zip(report.classes, pixels_of, strict=True) if not count]:
            more = " ..." if len(absent) > SHOWN else ""
            report.notices.append(f"{len(absent)} classes have no pixel{where}: {', '.join(absent[:SHOWN])}{more}.")
    return report


def refuse_wrong_masks(parts: Mapping[str, Pairs]) -> None:
    """What training does first. Raises: DataError with every kind of fault, and the first pairs that have it."""
    report = check_masks(parts, most=BEFORE_TRAINING, decode_pictures=False)
    if not report.problems:
        return
    errors = Counter(entry["error"] for entry in report.broken)
    lines = [*(p for p in report.problems if "cannot be used" not in p), *list(errors)[:SHOWN]]
    more = f"\n  and {len(errors) - SHOWN} more" if len(errors) > SHOWN else ""
    raise DataError(
        "The masks cannot be trained on:\n  " + "\n  ".join(lines) + more + "\n`hybridvit data check` lists all."
    )


def _spread(count: int, most: int | None) -> list[int]:
    if most is None or count <= most:
        return list(range(count))
    return np.linspace(0, count - 1, most).round().astype(int).tolist()
