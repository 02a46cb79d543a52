"""Pictures named in a list file: one path and label per line.

cats/tom.jpg 0              a space, a tab or a comma between them; spaces in the path are fine
"cats/tom, asleep.jpg", cat     quotes as in CSV; labels are numbers or names
img_path,label,width        names of columns in the first line; which are meant is seen by their names, or told
"""

import csv
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from hybridvit.data.decode import endings
from hybridvit.data.labels import number_labels, read_class_names, read_lines
from hybridvit.data.readers.files import FileSource
from hybridvit.data.readers.folder import Folder
from hybridvit.data.source import Counts
from hybridvit.errors import DataError

SUFFIXES = (".txt", ".csv", ".tsv", ".lst")
COMMENTS = "comment lines"
PICTURE = "image|img|picture|photo"
PATH_NAMES = re.compile(rf"({PICTURE}|file|full|relative|rel|sample)?(path|file|filename|name|id)s?|{PICTURE}")
LABEL_NAMES = re.compile(r"(class|label|category|target|species|breed|y)(name|id|idx|index|label|no)?s?")
LOOKED_AT = 20
"""Lines by which a list is understood."""


@dataclass(frozen=True)
class Row:
    line: int
    path: str
    label: str


def read_list(
    path: str | Path,
    *,
    root: Path | None = None,
    class_names: Sequence[str] | None = None,
    columns: Sequence[str] = (),
) -> FileSource:
    """Read `path, label` lines. Paths start from `root`, by default the list's own folder; "# " begins a comment line.

    Class names come from the caller, from classes.txt beside the list, or from the labels. `columns`: the names, or numbers
    from 1, of the columns with the path and the label. Whether the pictures exist is found when they are read.

    Raises:
        DataError: the list is missing, empty or unclear, or a path leads out of `root`.
    """
    path = Path(path)
    root = path.parent if root is None else root
    rows, counts = read_rows(path, root=root, columns=columns)
    for row in rows:
        if not (row.path and row.label):
            raise DataError(
                f"{path}, line {row.line}: expected a path and a label, found {row.path!r}. "
                'Put a path that holds the separator into quotes: "cats/tom, asleep.jpg", cat'
            )
    class_names, labels, notes = number_labels(
        [row.label for row in rows], class_names or read_class_names(path.parent), source=str(path)
    )
    counts = Counts.total([counts, Counts(notes=notes)])
    return FileSource(Folder(root), [row.path for row in rows], class_names=class_names, labels=labels, counts=counts)


def read_paths(path: Path, *, root: Path | None = None, columns: Sequence[str] = ()) -> FileSource:
    """The pictures of a list, whether labels follow them or not.

    Raises:
        DataError: as read_list, but for labels.
    """
    root = path.parent if root is None else root
    rows, counts = read_rows(path, root=root, columns=columns[:1], labelled=False)
    return FileSource(Folder(root), [row.path for row in rows], counts=counts)


def check_there(source: FileSource, *, where: Path) -> None:
    """Raise a DataError when no picture of a list is there: then the list is misunderstood, or its root is another."""
    if any(os.path.lexists(source.name(index)) for index in range(len(source))):
        return
    raise DataError(
        f"{where} names {len(source)} pictures, of which none is there. The first was looked for as {source.name(0)}. Give the "
        "folder where the paths start with --root."
    )


def read_rows(
    path: Path, *, root: Path, columns: Sequence[str] = (), labelled: bool = True
) -> tuple[list[Row], Counts]:
    """Paths, relative to `root`, and labels, "" where there is none, of every line that names a picture. Raises: DataError."""
    lines = [(number, line.strip()) for number, line in enumerate(read_lines(path), start=1)]
    kept = [(number, line) for number, line in lines if line and not _is_comment(line, root)]
    separator = _separator(path, [line for _, line in kept[:LOOKED_AT]])
    table = [(number, _fields(line, separator)) for number, line in kept]
    places, has_header = _columns(path, table, columns, labelled=labelled)
    width = len(table[0][1]) if table and (columns or (has_header and len(table[0][1]) > 1)) else None
    rows = []
    for number, fields in table[has_header:]:
        fits = len(fields) == width or (
            width is None and (len(fields) <= 2 or (not labelled and _names_picture(fields[0])))
        )
        if not fits:
            expected = f"{width} columns" if width else "a path and a label"
            raise DataError(
                f"{path}, line {number}: expected {expected}, found {', '.join(fields)!r}. Put a path that holds the separator "
                'into quotes: "cats/tom, asleep.jpg", cat; or choose columns with --columns PATH,LABEL.'
            )
        values = [fields[place] for place in places if place < len(fields)]
        rows.append(Row(number, values[0], values[1] if len(values) > 1 else ""))
    if not rows:
        raise DataError(f"{path} names no pictures. Expected lines such as: cats/tom.jpg, cat")
    note, repair = _repair(root, [row.path for row in rows[:LOOKED_AT]])
    rows = [
        Row(
            r.line,
            _inside(root, repair(r.path), place=f"{path}, line {r.line}"),
            r.label if not note else _bare(r.label),
        )
        for r in rows
    ]
    num_comments = sum(bool(line) for _, line in lines) - len(kept)
    passed_over = {COMMENTS: num_comments} if num_comments else {}
    return rows, Counts(len(rows), passed_over, (f"{path.name}: {note}",) if note else ())


def _is_comment(line: str, root: Path) -> bool:
    """# begins a comment, unless it begins the name of a picture that is there."""
    if not line.startswith("#"):
        return False
    return not any(os.path.lexists(root / _fields(line, separator)[0]) for separator in (None, ",", "\t"))


def _separator(path: Path, lines: Sequence[str]) -> str | None:
    """A tab, a semicolon, a comma, or None for spaces: a comma only where it follows a picture's name or the list is CSV."""
    if any("\t" in line for line in lines):
        return "\t"
    for separator in ",;":
        first_fields = [_fields(line, separator)[0] for line in lines if separator in line]
        if any(_names_picture(field.strip("'")) for field in first_fields):
            return separator
    if path.suffix.lower() == ".csv":
        return ";" if lines and ";" in lines[0] and "," not in lines[0] else ","
    return None


def _fields(line: str, separator: str | None) -> list[str]:
    if separator:
        return [field.strip() for field in next(csv.reader([line], delimiter=separator, skipinitialspace=True))]
    if _names_picture(line) and not line.startswith('"'):
        return [line]  # a path with spaces and without a label
    match = _by_space().fullmatch(line)
    return [field.strip() for field in match.groups() if field is not None] if match else [line]


def _by_space() -> re.Pattern[str]:
    ends = "|".join(map(re.escape, sorted(endings(), key=len, reverse=True)))
    return re.compile(rf'"([^"]+)"\s+(.+)|(.*(?:{ends}))\s+(.+)|(.*\S)\s+(\S+)', re.I)


def _names_picture(text: str) -> bool:
    return text.lower().endswith(tuple(endings()))


def _columns(
    path: Path, table: Sequence[tuple[int, list[str]]], wanted: Sequence[str], *, labelled: bool
) -> tuple[list[int], bool]:
    """The numbers, from 0, of the columns with paths and labels, and whether the first line names them.

    Raises: DataError when it does not, and does not fit the others either.
    """
    if not table:
        return [0, 1], False
    number, first = table[0]
    others = [fields for _, fields in table[1 : LOOKED_AT + 1]]
    if wanted and not all(name.isdecimal() for name in wanted):
        missing = [name for name in wanted if name not in first]
        if missing:
            raise DataError(f"{path} has no column {missing[0]}; line {number} names {', '.join(first)}.")
        return [first.index(name) for name in wanted], True
    names = [re.sub(r"[^a-z0-9]", "", field.lower()) for field in first]
    of_paths = [k for k, name in enumerate(names) if PATH_NAMES.fullmatch(name)]
    of_labels = [k for k, name in enumerate(names) if LABEL_NAMES.fullmatch(name) and k not in of_paths]
    fits = any(map(_names_picture, first)) or _fits(first, others)
    is_header = bool(of_paths and of_labels) and not any(map(_names_picture, first))
    is_header = is_header or (bool(of_paths or of_labels) and not fits)
    if wanted:
        places = [int(name) - 1 for name in wanted]
        if min(places) < 0 or max(places) >= len(first):
            raise DataError(f"{path} has {len(first)} columns, numbered from 1; found --columns {','.join(wanted)}.")
        return places, is_header
    if is_header and len(first) > 1:
        return _named_columns(path, first, of_paths, of_labels, others, labelled=labelled), True
    if not (is_header or fits):
        raise DataError(
            f"{path}, line {number} ({', '.join(first)}) does not fit the lines below it. If it names columns, choose two of "
            "them with --columns PATH,LABEL."
        )
    return [0, 1], is_header


def _fits(first: Sequence[str], others: Sequence[Sequence[str]]) -> bool:
    """A line is like those below it: they are not all with a picture's name, or a number, where it has none."""
    if not others:
        return True
    return not all(any(map(_names_picture, fields)) for fields in others) and not any(
        not field.isdecimal() and all(k < len(fields) and fields[k].isdecimal() for fields in others)
        for k, field in enumerate(first)
    )


def _named_columns(
    path: Path,
    first: Sequence[str],
    of_paths: list[int],
    of_labels: list[int],
    others: Sequence[Sequence[str]],
    *,
    labelled: bool,
) -> list[int]:
    with_pictures = [k for k in range(len(first)) if others and all(_names_picture(f[k]) for f in others if k < len(f))]
    of_paths = [k for k in of_paths or with_pictures if k in with_pictures] or of_paths
    if len(first) == 2:
        of_paths = of_paths or [1 - of_labels[0]]
        of_labels = of_labels or [1 - of_paths[0]]
    if len(of_paths) != 1 or (labelled and len(of_labels) != 1):
        raise DataError(
            f"{path} has the columns {', '.join(first)}: which hold the path and the label is not clear. Choose with "
            "--columns PATH,LABEL."
        )
    return of_paths + of_labels[:1]


def _repair(root: Path, paths: Sequence[str]) -> tuple[str, Callable[[str], str]]:
    """What must be done to paths so that the first of them are found, in words and as a function: nothing, as a rule."""
    attempts: dict[str, Callable[[str], str]] = {
        "": lambda path: path,
        "paths with \\ for /": lambda path: path.replace("\\", "/"),
        "names in single quotes": _bare,
        "names in single quotes, paths with \\ for /": lambda path: _bare(path).replace("\\", "/"),
    }
    there = (note for note, each in attempts.items() if any(os.path.lexists(root / each(path)) for path in paths))
    note = next(there, "")
    return note, attempts[note]


def _bare(text: str) -> str:
    return text.removeprefix("'").removesuffix("'")


def _inside(root: Path, path: str, *, place: str) -> str:
    """The path relative to root. Evaluated by its letters alone: links inside the root are its owner's choice."""
    relative = os.path.relpath(path, root) if os.path.isabs(path) else os.path.normpath(path)
    if PurePath(relative).parts[:1] == ("..",) or os.path.isabs(relative):
        raise DataError(f"{place}: {path} lies outside {root}. Give the folder that holds all pictures with --root.")
    return relative
