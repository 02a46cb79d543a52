"""What is said of pictures: a row each, and all of them as a table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, overload

from hybridvit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Row:
    """One picture: what the task says of it, or why it could not be read."""

    path: str
    error: str | None = None
    said: Mapping[str, Any] = field(default_factory=dict)
    """The task's row, {"predictions": [{"class": ..., "probability": ...}, ...]} of a classifier; or logits, or features."""

    @property
    def ok(self) -> bool:
        return self.error is None

    def to_dict(self) -> dict[str, Any]:
        """Flat, for JSON, Parquet and others' workers."""
        return {"path": self.path, "ok": self.ok, "error": self.error, **self.said}

    def words(self) -> list[str]:
        """A cell for each prediction."""
        if not self.ok:
            return [str(self.error)]
        found = self.said.get("predictions")
        if found is None:
            return [f"{key} {tuple(value.shape)}" for key, value in self.said.items()]
        return [f"{one['class']}  {100 * _share(one):.1f} %" for one in found]

    def __str__(self) -> str:
        return f"{self.path}: {', '.join(self.words())}"


class Predictions(Sequence[Row]):
    """Rows in the pictures' order; prints as a table, shows itself in a notebook, and becomes a data frame."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = list(rows)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> "Predictions": ...
    def __getitem__(self, index: int | slice) -> "Row | Predictions":
        return Predictions(self.rows[index]) if isinstance(index, slice) else self.rows[index]

    @property
    def broken(self) -> list[Row]:
        return [row for row in self.rows if not row.ok]

    def ranked(self) -> list[dict[str, Any]]:
        """A line per picture and prediction: path, rank, class, and the prediction's other plain values."""
        return [
            {"path": row.path, "rank": rank, **{k: v for k, v in one.items() if isinstance(v, str | int | float)}}
            for row in self.rows
            for rank, one in enumerate(row.said.get("predictions", ()), start=1)
        ]

    def to_frame(self) -> Any:
        """A pandas.DataFrame with a row per picture. Raises: ConfigError without pandas."""
        try:
            import pandas
        except ImportError as error:
            raise ConfigError("A data frame takes pandas: pip install pandas") from error
        return pandas.DataFrame([row.to_dict() for row in self.rows])

    def __str__(self) -> str:
        return "\n".join(map(str, self.rows))

    def _repr_html_(self) -> str:
        lines = (f"<tr><td>{escape(row.path)}</td>{_cells(row)}</tr>" for row in self.rows)
        return f"<table><tr><th>picture</th></tr>{''.join(lines)}</table>"


def _cells(row: Row) -> str:
    return "".join(f"<td>{escape(cell)}</td>" for cell in row.words())


def _share(prediction: Mapping[str, Any]) -> float:
    """The probability, score or share: the first number with a fraction."""
    return next(value for value in prediction.values() if isinstance(value, float))
