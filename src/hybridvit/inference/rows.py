"""What is said of pictures: a row each, and all of them as a table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from hybridvit.evaluation.table import to_frame
from hybridvit.output import Table
from hybridvit.render.page import fragment, note, table

SHOWN = 1000
"""Rows that a notebook shows."""


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

    def table(self) -> Table:
        """A row per picture that could be read, a column per prediction."""
        good = [(row.path, row.words()) for row in self.rows if row.ok]
        width = max((len(words) for _, words in good), default=0)
        header = ["picture", *("first" if k == 0 else f"{k + 1}." for k in range(width))]
        return Table(header, [[path, *words, *[""] * (width - len(words))] for path, words in good])

    def to_frame(self) -> Any:
        """A pandas.DataFrame with a row per picture. Raises: ConfigError without pandas."""
        return to_frame([row.to_dict() for row in self.rows])

    def __str__(self) -> str:
        return "\n".join(map(str, self.rows))

    def _repr_html_(self) -> str:
        shown = [[row.path, *row.words()] for row in self.rows[:SHOWN]]
        width = max(map(len, shown), default=1)
        more = [note(f"{len(self) - SHOWN} more.")] if len(self) > SHOWN else []
        headers = ["picture", *(f"{rank}." for rank in range(1, width))]
        return fragment(table(headers, [line + [""] * (width - len(line)) for line in shown]), *more)


def _share(prediction: Mapping[str, Any]) -> float:
    """The probability, score or share: the first number with a fraction."""
    return next(value for value in prediction.values() if isinstance(value, float))
