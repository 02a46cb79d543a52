"""The rules by which annotations are believed, mended or refused: one place for COCO, YOLO and VOC.

Mended and counted
    a box that reaches over the border: cut at it
    a box without area, or wholly outside, is no object (COCO itself has two of them)
    an outline that is missing in a file where others have one, or is four numbers: the box takes its place
    a flat list of points: one polygon; a polygon of fewer than three points is dropped
    a picture's name in other capitals than the file's
    classes without objects, pictures without objects, pictures that no annotation names: kept, or left, and said
Refused
    a number that is none, corners in the wrong order, shares in a file of pixels and pixels in a file of shares, corners where
    width and height are expected, a class that is not declared, a picture that is missing or named twice, runs of another size
    or length than the picture's

Numbers of annotations are not used, so that 0, gaps and doubles do no harm; categories are matched by name.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hybridvit.data.detection.raw import Findings, RawObject, RawPicture, RawPictures
from hybridvit.errors import DataError

Outline = Any
FLAT_POINTS = 6
MANY = 10
"""Boxes needed before their form is doubted."""


def class_names_of(raw: RawPictures, expected: Sequence[str] | None) -> tuple[str, ...]:
    """The classes, in the order of the training part. Raises: DataError when a name is doubled or unknown there."""
    names = [str(name).strip() for name in raw.categories.values()]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise DataError(f"{raw.file} declares {', '.join(doubled)} twice. Give every class one name, and one only.")
    if expected is None:
        if not names:
            raise DataError(f"{raw.file} declares no classes.")
        return tuple(names)
    unknown = [name for name in names if name not in expected]
    if unknown:
        raise DataError(
            f"{raw.file} has the classes {', '.join(unknown)}, which the training part lacks. It has {', '.join(expected)}. "
            "Classes are matched by name; spell them alike."
        )
    return tuple(expected)


def tidy(raw: RawPictures, class_names: Sequence[str]) -> list[tuple[Path, bytes]]:
    """Each picture's file, and what is believed of it as JSON; `raw.findings` tells what was mended.

    Raises: DataError that names every fault, how often it occurs, and where first.
    """
    findings = raw.findings
    numbers = {key: class_names.index(str(name).strip()) for key, name in raw.categories.items()}
    files = _files(raw)
    _doubt_the_form(raw)
    outlined = any(each.outline for picture in raw.pictures for each in picture.objects)
    believed = []
    used: set[int] = set()
    for picture, file in zip(raw.pictures, files, strict=True):
        objects = [
            kept
            for each in picture.objects
            if (kept := _object(each, picture, raw, numbers, outlined, findings)) is not None
        ]
        used.update(number for _, number, *_ in objects)
        if not objects:
            findings.mend("pictures without objects: kept as examples of background")
        if file is not None:
            believed.append((file, json.dumps([picture.size, objects]).encode()))
    findings.raise_if_fatal(raw.file)
    if not believed:
        raise DataError(f"{raw.file} names no pictures.")
    if not used:
        raise DataError(f"{raw.file} has no object that could be learnt on any of its {len(believed)} pictures.")
    unused = [name for number, name in enumerate(class_names) if number not in used]
    if unused:
        findings.mend(
            "classes without objects: kept", ", ".join(unused[:5]) + (", ..." if len(unused) > 5 else ""), len(unused)
        )
    return believed


def _files(raw: RawPictures) -> list[Path | None]:
    """Where each picture lies; None for those that were refused."""
    root = raw.folder.resolve()
    found: dict[str, str] = {}
    for path in sorted(raw.folder.rglob("*")):
        relative = path.relative_to(raw.folder).as_posix()
        found.setdefault(relative.lower(), relative)
    files: list[Path | None] = []
    seen: set[str] = set()
    for picture in raw.pictures:
        name = picture.name.replace("\\", "/").removeprefix("./")
        path = raw.folder / name
        files.append(None)
        if not path.resolve().is_relative_to(root):
            raw.findings.refuse("pictures named outside the folder: names may not lead out of it", picture.name)
        elif name.lower() in seen:
            raw.findings.refuse("pictures named twice: leave one of the entries", picture.name)
        elif path.is_file():
            files[-1] = path
        elif name.lower() in found and (raw.folder / found[name.lower()]).is_file():
            files[-1] = raw.folder / found[name.lower()]
            raw.findings.mend(
                "names that differ in capitals from the pictures' files: taken for the same", picture.name
            )
        else:
            raw.findings.refuse(
                f"pictures missing below {raw.folder}: restore them, or remove their entries", picture.name
            )
        seen.add(name.lower())
    return files


def _doubt_the_form(raw: RawPictures) -> None:
    """A whole file of boxes that are written in another form than its own."""
    boxes = [(each.box, picture.size) for picture in raw.pictures for each in picture.objects if _is_finite(each.box)]
    if len(boxes) < MANY:
        return
    if not raw.unit and all(max(map(abs, box)) <= 1 for box, _ in boxes):
        raw.findings.refuse(
            "boxes that all lie between 0 and 1 in a file of pixels: multiply by the sides", "all of them"
        )
    outside = [(box, size) for box, size in boxes if size and (box[2] > size[1] + 1 or box[3] > size[0] + 1)]
    if not raw.unit and len(outside) > len(boxes) / 2:
        as_corners = sum(
            box[2] - box[0] <= size[1] and box[3] - box[1] <= size[0] and box[2] >= 2 * box[0] and box[3] >= 2 * box[1]
            for box, size in outside
        )
        if as_corners == len(outside):
            raw.findings.refuse(
                "boxes reach over the border as x, y, width, height, and fit as left, top, right, bottom: "
                "write width and height",
                f"of {len(boxes)}",
            )


def _object(
    each: RawObject,
    picture: RawPicture,
    raw: RawPictures,
    numbers: dict[Any, int],
    outlined: bool,
    findings: Findings,
) -> tuple[list[float], int, bool, float | None, Outline] | None:
    """Box, class, crowd, area and outline of an object that is believed; None for none."""
    where = f"{picture.name}, {each.where}"
    if each.category not in numbers:
        known = ", ".join(map(str, list(raw.categories)[:10]))
        findings.refuse(f"objects of a class that is not declared (declared: {known})", f"{where}: {each.category!r}")
        return None
    if not _is_finite(each.box):
        findings.refuse("boxes with a number that is none: correct or remove them", where)
        return None
    left, top, right, bottom = each.box
    if right < left or bottom < top:
        findings.refuse("boxes whose corners are in the wrong order, or of negative size: correct them", where)
        return None
    if raw.unit and max(map(abs, each.box)) > 2:
        findings.refuse("boxes of more than 1 in a file of shares: divide by the sides", where)
        return None
    rows, columns = (1, 1) if raw.unit else picture.size or (math.inf, math.inf)
    box = [max(left, 0.0), max(top, 0.0), min(right, columns), min(bottom, rows)]
    if box[2] <= box[0] or box[3] <= box[1]:
        findings.mend("boxes without area on the picture: left out", where)
        return None
    slack = 1e-6 if raw.unit else 1e-3
    if max(abs(a - b) for a, b in zip(box, each.box, strict=True)) > slack:
        findings.mend("boxes reaching over the border: cut at it", where)
    outline = None
    if outlined:
        outline = _outline(each, picture, raw, where)
        if outline is None:
            findings.mend("objects without an outline among others that have one: their boxes take its place", where)
            outline = [_rectangle(box)]
        elif outline == "refused":
            return None
    area = float(each.area) if each.area is not None and _is_finite([each.area]) and each.area > 0 else None
    return box, numbers[each.category], bool(each.crowd), area, outline


def _outline(each: RawObject, picture: RawPicture, raw: RawPictures, where: str) -> Outline:
    """Polygons or runs that can be drawn; None where there is nothing of the kind."""
    found = each.outline
    if isinstance(found, dict):
        return _runs(found, picture, raw, where)
    if not isinstance(found, list | tuple) or not found:
        return None
    if all(isinstance(value, int | float) for value in found):
        if len(found) < FLAT_POINTS or len(found) % 2:
            raw.findings.mend("outlines that are four numbers, or no pairs: left out", where)
            return None
        raw.findings.mend("outlines that are a flat list of points: taken for one polygon", where)
        found = [found]
    polygons = []
    for polygon in found:
        if not isinstance(polygon, list | tuple) or len(polygon) % 2 or not _is_finite(polygon):
            raw.findings.refuse("outlines that are no lists of x, y: correct or remove them", where)
            return "refused"
        if len(polygon) < FLAT_POINTS:
            raw.findings.mend("polygons of fewer than three points: left out", where)
        else:
            polygons.append([float(value) for value in polygon])
    return polygons or None


def _runs(found: dict[str, Any], picture: RawPicture, raw: RawPictures, where: str) -> Outline:
    counts, size = found.get("counts"), found.get("size")
    is_pair = isinstance(size, list | tuple) and len(size) == 2 and all(isinstance(side, int) for side in size)
    if not is_pair or not isinstance(counts, str | list) or (picture.size and tuple(size) != picture.size):  # type: ignore[arg-type]
        raw.findings.refuse("outlines by runs of another size than the picture's: correct or remove them", where)
        return "refused"
    rows, columns = size  # type: ignore[misc]
    runs = counts if isinstance(counts, list) else run_lengths(counts)
    if any(not isinstance(run, int) or run < 0 for run in runs) or sum(runs) != rows * columns:
        raw.findings.refuse("outlines whose runs do not add up to the picture's pixels: correct or remove them", where)
        return "refused"
    return {"size": [rows, columns], "counts": counts}


def run_lengths(text: str) -> list[int]:
    """COCO's compressed runs: five bits a character, the lowest first, from the third run on as difference to the last but one.

    What is no such text gives runs that do not add up: the C library that draws them trusts its input.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 30:
            return [-1]
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs if not shift else [-1]


def _rectangle(box: Sequence[float]) -> list[float]:
    left, top, right, bottom = box
    return [left, top, right, top, right, bottom, left, bottom]


def _is_finite(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and math.isfinite(value) for value in values)
