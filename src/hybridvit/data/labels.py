"""Labels as files write them, numbers or names, become numbers and class names."""

import codecs
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from hybridvit.errors import DataError

CLASSES_FILE = "classes.txt"
LONGEST_NUMBER = 18
"""Digits; longer ones are names."""


class Spelling(dict[str, str]):
    """A name -> the name that it counts as."""

    @property
    def notes(self) -> tuple[str, ...]:
        changed = sorted({kept for name, kept in self.items() if name != kept})
        return tuple(f"{name} is written in several Unicode forms, taken as one class" for name in changed)


def one_spelling(names: Iterable[str], given: Iterable[str] = ()) -> Spelling:
    """Names that look the same, and differ only in how Unicode writes them (é as one character or as two), become one.

    That is as it is spelt in `given`, else as it is found where there is one form, else the composed form (NFC).
    """
    forms: dict[str, set[str]] = {}
    for name in names:
        forms.setdefault(_composed(name), set()).add(name)
    kept = {key: next(iter(found)) if len(found) == 1 else key for key, found in forms.items()}
    kept |= {_composed(name): name for name in given}
    return Spelling({name: kept[key] for key, found in forms.items() for name in found})


def read_lines(path: Path) -> list[str]:
    """The lines of a text in UTF-8, with or without a byte order mark. Raises: DataError."""
    try:
        data = path.read_bytes()
        encoding = _wide_encoding(data)
        if encoding:
            raise DataError(
                f"{path} is written in {encoding}. Save it as UTF-8: in Excel as 'CSV UTF-8', in an editor by the encoding of "
                f"'Save as', or with: iconv -f {encoding} -t UTF-8"
            )
        if b"\0" in data:
            raise DataError(
                f"{path} is no text in UTF-8: byte {data.index(0)} is zero. It is damaged (cut off while it was written, "
                "perhaps), or another kind of file. Write it again, as UTF-8."
            )
        text = data.decode("utf-8-sig")
        return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")  # splitlines() knows eight ends more
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line}: expected UTF-8, found the byte {data[error.start]:#x}. Save it as UTF-8."
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _wide_encoding(data: bytes) -> str | None:
    """UTF-16 or UTF-32, by its byte order mark, or by where the zeros stand: never in the byte that tells letters apart."""
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "UTF-32"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    start = data[:1000]
    zeros = [start[place::4].count(0) for place in range(4)]
    if data and len(data) % 4 == 0:
        full = len(start) // 4
        if [zeros[0], *zeros[2:]] == [0, full, full] or [*zeros[:2], zeros[3]] == [full, full, 0]:
            return "UTF-32"
    even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]
    if len(data) % 2 == 0 and min(even, odd) == 0 and 20 * (even + odd) >= len(start) > 0:
        return "UTF-16"
    return None


def read_class_names(folder: Path) -> tuple[str, ...] | None:
    """The lines of FOLDER/classes.txt, in the order of the labels; None without that file."""
    path = folder / CLASSES_FILE
    if not path.is_file():
        return None
    names = [line.strip() for line in read_lines(path) if line.strip()]
    repeated = sorted(name for name, number in Counter(map(_composed, names)).items() if number > 1)
    if repeated:
        raise DataError(f"{path} names {repeated[0]} more than once. Each class stands on one line.")
    return tuple(names)


def number_labels(
    labels: Sequence[str], class_names: Sequence[str] | None, *, source: str
) -> tuple[tuple[str, ...], list[int], tuple[str, ...]]:
    """Class names, the labels' places among them, and notes.

    Labels that are names of `class_names` count as names, whole numbers as places. Without class names, whole numbers
    name the classes 0, 1, 2 ... and other labels are sorted.

    Raises:
        DataError: a label is unknown, or numbers leave classes without a picture.
    """
    spelling = one_spelling(labels, class_names or ())
    distinct = sorted(set(spelling.values()))
    numeric = all(label.isdecimal() and label.isascii() and len(label) <= LONGEST_NUMBER for label in distinct)
    if class_names is None:
        class_names = distinct
        if all(re.fullmatch(r"-?[0-9]+", label) for label in distinct) and distinct[0].startswith("-"):
            raise DataError(
                f"{source}: label {distinct[0]} is no class. Count from 0, and leave out pictures without a label."
            )
        if numeric:
            numbers = sorted(set(map(int, distinct)))
            gap = next((k for k, number in enumerate(numbers) if k != number), None)
            if gap is not None:
                raise DataError(
                    f"{source}: labels run from {numbers[0]} to {numbers[-1]}, but {gap} has no picture. Count from 0 "
                    f"without gaps, or name all classes, in order, in {CLASSES_FILE} beside it."
                )
            class_names = list(map(str, numbers))
    place = {name: k for k, name in enumerate(class_names)}
    if numeric and not all(label in place for label in distinct):
        place = {label: int(label) for label in distinct if int(label) < len(class_names)}
    unknown = [label for label in distinct if label not in place]
    if unknown:
        raise DataError(
            f"{source}: label {unknown[0]} is not among the {len(class_names)} classes "
            f"({', '.join(class_names[:5])}{' ...' if len(class_names) > 5 else ''})."
        )
    return tuple(class_names), [place[spelling[label]] for label in labels], spelling.notes


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
