"""What a folder of pieces holds: of which model, which pictures, computed how. One folder, one job."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybridvit.errors import DataError
from hybridvit.files import replacing
from hybridvit.output import to_json

MANIFEST = "_manifest.json"
"""Readers of Parquet folders pass over names that begin with an underscore."""
UNFINISHED = ".unfinished"
"""The folder, within the output's, of files that are being written: no reader looks for files there."""
IDENTITY = ("format", "model", "options", "listing")
"""The sections that must be the same for whoever writes to the folder."""


def claim(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest to a new folder, or find the same job there already. Several processes may try at once.

    Raises: DataError when the folder holds another job's pieces, with each difference, or when it cannot be written.
    """
    path = folder / MANIFEST
    if not path.exists():
        if any(folder.glob("*.parquet")):
            raise DataError(
                f"{folder} holds Parquet files, but no {MANIFEST}: whose they are is unknown. Choose another."
            )
        _write(path, manifest, keep=True)
    found = read(folder)
    differences = [
        f"  {section}.{key}: {_short(found.get(section, {}).get(key))} there, {_short(value)} now"
        for section in IDENTITY
        for key, value in json.loads(to_json(manifest[section])).items()
        if found.get(section, {}).get(key) != value
    ]
    if differences:
        raise DataError(
            f"{folder} holds another job, and one folder holds one:\n"
            + "\n".join(differences)
            + "\nChoose another folder."
        )


def read(folder: Path) -> dict[str, Any]:
    """Raises: DataError where there is none, or it cannot be read."""
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(found.get(section), dict) for section in IDENTITY):
        raise DataError(f"{path} is no manifest of predictions.")
    return found


def complete(folder: Path, counts: Mapping[str, int]) -> None:
    """Note the counts of a job of which every piece is there."""
    _write(folder / MANIFEST, read(folder) | {"counts": counts})


def _write(path: Path, manifest: Mapping[str, Any], *, keep: bool = False) -> None:
    try:
        with replacing(path, by_way_of=path.parent / UNFINISHED, keep=keep) as temporary:
            temporary.write_text(to_json(manifest) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}") from error


def _short(value: object) -> str:
    text = to_json(value, indent=None)
    return text if len(text) <= 200 else f"{text[:197]}..."
