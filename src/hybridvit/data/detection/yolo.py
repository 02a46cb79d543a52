"""YOLO: data.yaml, and beside each picture's `images` folder one of `labels`, a line per object: class, then shares of the sides.

Five numbers are a box by centre and size; more are a polygon.
"""

import math
from pathlib import Path
from typing import Any

from hybridvit.data.decode import endings
from hybridvit.data.detection.raw import Findings, RawObject, RawPicture, RawPictures
from hybridvit.errors import DataError
from hybridvit.typed import parse_yaml


def read_yolo(file: Path, part: str) -> RawPictures:
    """file: data.yaml. part: its train, val or test. Raises: DataError."""
    settings = settings_of(file)
    folder = picture_folder(file, settings, part)
    names = settings.get("names")
    categories: dict[Any, str] = {}
    if isinstance(names, list):
        categories = {str(number): str(name) for number, name in enumerate(names)}
    elif isinstance(names, dict):
        categories = {str(number): str(name) for number, name in sorted(names.items(), key=lambda item: int(item[0]))}
    if not categories:
        raise DataError(f"{file} names no classes: it needs names, a list or a number for each.")
    findings = Findings()
    pictures = []
    labels = _labels_of(folder)
    unused = {path.relative_to(labels).with_suffix("") for path in labels.rglob("*.txt")} if labels.is_dir() else set()
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in endings() or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        name = path.relative_to(folder)
        picture = RawPicture(name.as_posix())
        lines = labels / name.with_suffix(".txt")
        unused.discard(name.with_suffix(""))
        if lines.is_file():
            picture.objects = _objects(lines, name.with_suffix(".txt").as_posix(), findings)
        else:
            findings.mend("pictures without a label file: taken for background", name.as_posix())
        pictures.append(picture)
    unused -= {Path("classes")}
    for stem in sorted(unused):
        findings.mend("label files without a picture: left out", f"{stem}.txt")
    return RawPictures(file=file, folder=folder, categories=categories, pictures=pictures, unit=True, findings=findings)


def settings_of(file: Path) -> dict[str, Any]:
    try:
        settings = parse_yaml(file.read_text(encoding="utf-8"), source=str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}.") from error
    if not isinstance(settings, dict):
        raise DataError(f"{file} is no YOLO file: it needs train, val and names.")
    return settings


def picture_folder(file: Path, settings: dict[str, Any], part: str) -> Path:
    """Of a part's pictures: as data.yaml says, from its own folder on. Raises: DataError when it is not there."""
    said = settings.get(part)
    if not isinstance(said, str):
        raise DataError(f"{file}: {part} must be a folder of pictures, found {said!r}.")
    root = file.parent
    inside = settings.get("path") or "."
    tries = [root / str(inside) / said, root / said, root / said.removeprefix("../")]
    for folder in tries:
        if folder.is_dir() and folder.resolve().is_relative_to(root.resolve()):
            return folder
    raise DataError(f"{file}: {part} is {said}, and no such folder lies below {root}.")


def _labels_of(folder: Path) -> Path:
    """The last `images` of a path becomes `labels`, as YOLO has it; without one, labels lie beside the pictures."""
    parts = list(folder.parts)
    for i in reversed(range(len(parts))):
        if parts[i] == "images":
            return Path(*parts[:i], "labels", *parts[i + 1 :])
    return folder / "labels" if (folder / "labels").is_dir() else folder


def _objects(file: Path, name: str, findings: Findings) -> list[RawObject]:
    objects = []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}.") from error
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        where = f"line {number}"
        try:
            values = [float(value) for value in fields[1:]]
        except ValueError:
            values = []
        if len(values) != 4 and (len(values) < 6 or len(values) % 2):
            findings.refuse(
                "lines that are not a class and a box (4 numbers) or polygon (x and y, 3 times or more)",
                f"{name}, {where}",
            )
            continue
        if len(values) == 4:
            x, y, width, height = values
            box, outline = (x - width / 2, y - height / 2, x + width / 2, y + height / 2), None
        else:
            xs, ys = values[0::2], values[1::2]
            finite = all(map(math.isfinite, values))
            box = (min(xs), min(ys), max(xs), max(ys)) if finite else (math.nan,) * 4
            outline = [values]
        objects.append(RawObject(where, fields[0], box, outline))
    return objects
