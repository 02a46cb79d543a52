r"""Text and JSON that leave the program: always valid UTF-8, always valid JSON.

Names of files and classes may hold bytes that are no UTF-8; Python keeps each as half of a surrogate pair. What is shown or
written has `\udcXX` in its place, XX the byte in hexadecimal, which is what Python's error handler backslashreplace makes of it,
on terminals, too.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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
