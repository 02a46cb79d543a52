"""Pictures of several classes each, from list files.

beach.jpg,sea|sky           class names, or numbers, with | or ; between them
"dunes, east.jpg",          a picture of no class

A folder has train.csv and one of val.csv, test.csv, validation.csv (.txt, .tsv and .lst, too); a single list is one whole.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hybridvit.data.labels import number_labels, read_class_names
from hybridvit.data.layout import TESTS, TRAIN, WHOLE
from hybridvit.data.readers.files import NO_LABEL, FileSource
from hybridvit.data.readers.folder import Folder
from hybridvit.data.readers.lists import SUFFIXES, check_there, read_rows
from hybridvit.data.source import Counts, Source, Splits
from hybridvit.data.split import hold_out
from hybridvit.errors import DataError

SEPARATORS = re.compile(r"\s*[|;]\s*")


class MultilabelSource(FileSource):
    """A list's pictures. The target is the numbers of a picture's classes, ascending; its label, for what asks for one, the
    first of them."""

    def __init__(self, root: Path, paths: Sequence[str], targets: Sequence[tuple[int, ...]], **options: Any) -> None:
        labels = [target[0] if target else NO_LABEL for target in targets]
        super().__init__(Folder(root), paths, labels=labels, **options)
        self.targets = targets

    def target(self, index: int) -> tuple[int, ...]:
        return self.targets[index]


def read_multilabel_list(
    path: Path, *, root: Path | None = None, columns: Sequence[str] = (), class_names: Sequence[str] | None = None
) -> MultilabelSource:
    """Paths start from `root`, by default the list's own folder. Class names come from the caller, from classes.txt beside the
    list, or from the labels.

    Raises: DataError when the list is missing, empty or unclear, names an unknown class, or no picture of it is there.
    """
    root = path.parent if root is None else root
    rows, counts = read_rows(path, root=root, columns=columns)
    labels = [[label for label in SEPARATORS.split(row.label.strip()) if label] for row in rows]
    given = class_names or read_class_names(path.parent)
    names, numbers, notes = number_labels([label for each in labels for label in each], given, source=str(path))
    following = iter(numbers)
    targets = [tuple(sorted({next(following) for _ in each})) for each in labels]
    counts = Counts.total([counts, Counts(notes=notes)])
    source = MultilabelSource(root, [row.path for row in rows], targets, class_names=names, counts=counts)
    check_there(source, where=path)
    return source


def open_multilabel_splits(
    data: Any, *, root: Path | None = None, columns: Sequence[str] = (), val_split: float = 0.0
) -> Splits:
    """The parts to train on and to be evaluated on; with val_split, a single list is divided. Raises: DataError."""
    lists = _find(data)
    options: dict[str, Any] = {"root": root, "columns": columns}
    tests = [name for name in TESTS if name in lists]
    if val_split:
        if tests:
            raise DataError(f"{data} has its own {tests[0]} part; --val-split is for data sets without one.")
        return hold_out(read_multilabel_list(next(iter(lists.values())), **options), val_split)
    if TRAIN not in lists or len(tests) != 1:
        raise DataError(
            f"{data} has {', '.join(filter(None, lists)) or 'one list'}. Training takes a list train and one of "
            f"{', '.join(TESTS)}. Use --val-split 0.2 to hold out a fifth of a single list."
        )
    train = read_multilabel_list(lists[TRAIN], **options)
    return Splits(train=train, test=read_multilabel_list(lists[tests[0]], class_names=train.class_names, **options))


def open_multilabel_test(
    data: Any, *, root: Path | None = None, columns: Sequence[str] = (), val_split: float = 0.0
) -> tuple[str, Source]:
    """The part to be evaluated on, with its name. Raises: DataError."""
    options: dict[str, Any] = {"root": root, "columns": columns}
    if val_split:
        return f"{data} (the {val_split:g} held out)", open_multilabel_splits(data, val_split=val_split, **options).test
    lists = _find(data)
    if WHOLE in lists:
        return str(data), read_multilabel_list(lists[WHOLE], **options)
    if TRAIN in lists:
        splits = open_multilabel_splits(data, **options)
        return f"{data}/{next(name for name in TESTS if name in lists)}", splits.test
    name, path = next(iter(lists.items()))
    return f"{data}/{name}", read_multilabel_list(path, **options)


def _find(data: Any) -> dict[str, Path]:
    """The lists by part; one whole has the name "". Raises: DataError."""
    if not isinstance(data, str | Path):
        raise DataError(f"Pictures of several classes come from list files; found a {type(data).__name__}.")
    path = Path(data)
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return {WHOLE: path}
    files = [path / f"{part}{suffix}" for part in (TRAIN, *TESTS) for suffix in SUFFIXES]
    found = {file.stem: file for file in files if file.is_file()}
    if not found:
        raise DataError(
            f"{path} holds no list. Expected train.csv and val.csv with lines such as: beach.jpg,sea|sky (or a single list and "
            "--val-split)."
        )
    return found
