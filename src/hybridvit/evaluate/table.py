"""Results as tables: for pandas, and for notebooks."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from hybridvit.errors import ConfigError


def to_frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows as a pandas.DataFrame. Raises: ConfigError without pandas."""
    try:
        import pandas
    except ImportError as error:
        raise ConfigError("pandas is not installed: pip install pandas") from error
    return pandas.DataFrame(rows)


def to_html(text: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A result as a notebook shows it: a few lines, and a table."""
    cells = ["".join(f"<td>{_cell(value)}</td>" for value in row) for row in rows]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return f"<pre>{html.escape(text)}</pre><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.2f}" if isinstance(value, float) else html.escape(str(value))
