"""Pictures named in a list file: one path and label per line.

cats/tom.jpg 0              a space, a tab or a comma between them; spaces in the path are fine
"cats/tom, asleep.jpg", cat     quotes as in CSV; labels are numbers or names
"""

import csv
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePath

from hybridvit.data.folder import EXTENSIONS, FolderSource
from hybridvit.data.labels import number_labels, read_class_names
from hybridvit.errors import DataError

SUFFIXES = (".txt", ".csv", ".tsv", ".lst")
BY_SPACE = re.compile(rf'"([^"]+)"\s+(.+)|(.*(?:{"|".join(map(re.escape, EXTENSIONS))}))\s+(.+)|(.*\S)\s+(\S+)', re.I)
HEADERS = ("path", "file", "filename", "image", "picture", "name", "filepath", "file_name", "image_path")


def read_list(path: str | Path, *, root: Path | None = None, class_names: Sequence[str] | None = None) -> FolderSource:
    """Read `path, label` lines. Paths start from `root`, by default the list's own folder; # begins a comment line.

    Class names come from the caller, from classes.txt beside the list, or from the labels. Whether the pictures exist
    is found when they are read.

    Raises:
        DataError: the list is missing, empty or unclear, or a path leads out of `root`.
    """
    path = Path(path)
    root = path.parent if root is None else root
    rows = _rows(path)
    for number, fields in rows:
        if len(fields) != 2 or not all(fields):
            raise DataError(
                f"{path}, line {number}: expected a path and a label, found {', '.join(fields)!r}. "
                'Put a path that holds the separator into quotes: "cats/tom, asleep.jpg", cat'
            )
    inside = [_inside(root, fields[0], place=f"{path}, line {number}") for number, fields in rows]
    class_names, labels = number_labels(
        [fields[1] for _, fields in rows], class_names or read_class_names(path.parent), source=str(path)
    )
    return FolderSource(root, class_names, inside, labels)


def read_paths(path: Path, *, root: Path | None = None) -> list[str]:
    """The paths of a list, relative to `root`, whether labels follow them or not.

    Raises:
        DataError: as read_list, but for labels.
    """
    root = path.parent if root is None else root
    return [_inside(root, fields[0], place=f"{path}, line {number}") for number, fields in _rows(path)]


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """The fields of every line that names a picture, with its number."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a list of pictures: {error}.") from error
    lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), start=1)]
    lines = [(n, line) for n, line in lines if line and not line.startswith("#")]
    separator = _separator(path, [line for _, line in lines[:20]])
    rows = [(n, _fields(line, separator)) for n, line in lines]
    if rows and rows[0][1] and rows[0][1][0].lower() in HEADERS:
        rows = rows[1:]
    if not rows:
        raise DataError(f"{path} names no pictures. Expected lines such as: cats/tom.jpg, cat")
    return rows


def _separator(path: Path, lines: Sequence[str]) -> str | None:
    """A tab, a comma, or None for spaces: a comma only where it follows a picture's name or the list is CSV."""
    if any("\t" in line for line in lines):
        return "\t"
    first_fields = [_fields(line, ",")[0] for line in lines if "," in line]
    by_comma = any(field.lower().endswith(EXTENSIONS) for field in first_fields)
    return "," if by_comma or path.suffix.lower() == ".csv" else None


def _fields(line: str, separator: str | None) -> list[str]:
    if separator:
        return [field.strip() for field in next(csv.reader([line], delimiter=separator, skipinitialspace=True))]
    if line.lower().endswith(EXTENSIONS) and not line.startswith('"'):
        return [line]  # a path with spaces and without a label
    match = BY_SPACE.fullmatch(line)
    return [field.strip() for field in match.groups() if field is not None] if match else [line]


def _inside(root: Path, path: str, *, place: str) -> str:
    """The path relative to root. Judged by its letters alone: links inside the root are its owner's choice."""
    relative = os.path.relpath(path, root) if os.path.isabs(path) else os.path.normpath(path)
    if PurePath(relative).parts[:1] == ("..",) or os.path.isabs(relative):
        raise DataError(f"{place}: {path} lies outside {root}. Give the folder that holds all pictures with --root.")
    return relative
