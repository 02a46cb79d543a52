"""Rows of pictures as Parquet files, which appear complete or not at all. Needs the extra `scale`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hybridvit.errors import ConfigError, DataError
from hybridvit.files import replacing
from hybridvit.inference.manifest import UNFINISHED
from hybridvit.inference.rows import Row
from hybridvit.output import printable, to_json

NOTE = b"hybridvit"
"""The key in a file's metadata."""


def require() -> Any:
    """pyarrow. Raises: ConfigError without it."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError("Parquet files take pyarrow: pip install 'hybridvit[scale]'") from error
    return pyarrow


def write_rows(
    path: Path, rows: Sequence[Row], *, give: str, fields: Mapping[str, Any], note: Mapping[str, Any]
) -> None:
    """One row per picture: path, ok, error, and what was asked for, which is null where ok is false.

    Every file of a job has the same columns, whatever its pictures are like. `fields`: the task's `row_fields`. `note` goes to
    the file's metadata.

    Raises: DataError when the file cannot be written.
    """
    arrow = require()
    numbers = arrow.list_(arrow.float32())
    said = arrow.list_(_type(arrow, fields)) if give == "predictions" else numbers
    schema = arrow.schema(
        [("path", arrow.string()), ("ok", arrow.bool_()), ("error", arrow.string()), (give, said)],
        metadata={NOTE: to_json(note, indent=None)},
    )
    columns = [
        [printable(row.path) for row in rows],
        [row.ok for row in rows],
        [row.error and printable(row.error) for row in rows],
        [row.said.get(give) for row in rows],
    ]
    table = arrow.Table.from_arrays(
        [arrow.array(column, type=kind) for column, kind in zip(columns, schema.types, strict=True)], schema=schema
    )
    try:
        with replacing(path, by_way_of=path.parent / UNFINISHED) as temporary:
            arrow.parquet.write_table(table, temporary)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}") from error


def read_note(path: Path) -> dict[str, Any]:
    """What write_rows noted in a file. Raises: DataError for a file that it did not write."""
    arrow = require()
    try:
        note: dict[str, Any] = json.loads(arrow.parquet.read_schema(path).metadata[NOTE])
    except (OSError, arrow.ArrowException, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no file of this job. Remove it, or choose another folder.") from error
    return note


def _type(arrow: Any, fields: Any) -> Any:
    if isinstance(fields, Mapping):
        return arrow.struct([(name, _type(arrow, kind)) for name, kind in fields.items()])
    if isinstance(fields, list):
        return arrow.list_(_type(arrow, fields[0]))
    return {str: arrow.string(), int: arrow.int32(), float: arrow.float32()}[fields]
