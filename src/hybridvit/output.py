r"""Text and JSON that leave the program: always valid UTF-8, always valid JSON.

Names of files and classes may hold bytes that are no UTF-8; Python keeps each as half of a surrogate pair. What is shown or
written has `\udcXX` in its place, XX the byte in hexadecimal, which is what Python's error handler backslashreplace makes of it,
on terminals, too.
"""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Table:
    """Rows under a header, as text in columns: of numbers only, aligned to the right. None is a dash."""

    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    title: str = ""

    @property
    def cells(self) -> list[list[str]]:
        return [["-" if value is None else str(value) for value in row] for row in self.rows]

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers only."""
        return [all(_is_number(row[k]) for row in self.cells) for k in range(len(self.header))]

    def __str__(self) -> str:
        lines = [list(self.header), *self.cells]
        widths = [max(len(row[k]) for row in lines) for k in range(len(self.header))]
        places = list(zip(widths, self.numeric, strict=True))
        texts = (
            "  ".join(
                text.rjust(width) if right else text.ljust(width)
                for text, (width, right) in zip(row, places, strict=True)
            ).rstrip()
            for row in lines
        )
        return "\n".join([*([self.title] if self.title else []), *texts])


class Described(ABC):
    """What says of itself what it is, in texts and tables: the same for print, for a notebook and for commands."""

    @abstractmethod
    def describe(self) -> Sequence[object]:
        """Texts and tables, one under another."""

    def __str__(self) -> str:
        return "\n".join(map(str, self.describe()))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """In a notebook, too."""
        printer.text(printable(str(self)))


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(".", "", 1).replace(",", "").replace("-", "", 1).isdigit()


def printable(text: str) -> str:
    """The text, with what UTF-8 cannot hold spelt out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def to_json(value: Any, *, indent: int | None = 2) -> str:
    """As json.dumps, but strict: numbers that are not finite are null, numpy's become plain ones, paths their names.

    Raises: TypeError for what has no place in JSON.
    """
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_key(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "tolist"):  # numpy's arrays and numbers, torch's tensors
        return _plain(value.tolist())
    if isinstance(value, str | Path):
        return printable(str(value))
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _key(key: Any) -> Any:
    return printable(key) if isinstance(key, str) else key
