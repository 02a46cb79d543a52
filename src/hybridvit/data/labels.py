"""Labels as files write them, numbers or names, become numbers and class names."""

from collections.abc import Sequence
from pathlib import Path

from hybridvit.errors import DataError

CLASSES_FILE = "classes.txt"


def read_class_names(folder: Path) -> tuple[str, ...] | None:
    """The lines of FOLDER/classes.txt, in the order of the labels; None without that file."""
    path = folder / CLASSES_FILE
    if not path.is_file():
        return None
    names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"{path} names {repeated[0]} more than once. Each class stands on one line.")
    return tuple(names)


def number_labels(
    labels: Sequence[str], class_names: Sequence[str] | None, *, source: str
) -> tuple[tuple[str, ...], list[int]]:
    """Class names and the labels' places among them.

    Labels that are names of `class_names` count as names, whole numbers as places. Without class names, whole numbers
    name the classes 0, 1, 2 ... and other labels are sorted.

    Raises:
        DataError: a label is unknown, or numbers leave classes without a picture.
    """
    distinct = sorted(set(labels))
    numeric = all(label.isdecimal() and label.isascii() for label in distinct)
    if class_names is None:
        class_names = [str(k) for k in range(max(map(int, distinct)) + 1)] if numeric and distinct else distinct
        missing = sorted(set(range(len(class_names))) - set(map(int, distinct))) if numeric else []
        if missing:
            raise DataError(
                f"{source}: labels run from {min(map(int, distinct))} to {len(class_names) - 1}, but {missing[0]} has no "
                f"picture. Count from 0 without gaps, or name all classes, in order, in {CLASSES_FILE} beside it."
            )
    place = {name: k for k, name in enumerate(class_names)}
    if numeric and not all(label in place for label in distinct):
        place = {label: int(label) for label in distinct if int(label) < len(class_names)}
    unknown = [label for label in distinct if label not in place]
    if unknown:
        raise DataError(
            f"{source}: label {unknown[0]} is not among the {len(class_names)} classes "
            f"({', '.join(class_names[:5])}{' ...' if len(class_names) > 5 else ''})."
        )
    return tuple(class_names), [place[label] for label in labels]
