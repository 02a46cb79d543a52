"""Results as tables: for pandas, and for notebooks."""

from collections.abc import Mapping, Sequence
from typing import Any

from hybridvit.errors import ConfigError
from hybridvit.render.page import fragment, preformatted, table


def to_frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows as a pandas.DataFrame. Raises: ConfigError without pandas."""
    try:
        import pandas
    except ImportError as error:
        raise ConfigError("A data frame takes pandas: pip install pandas") from error
    return pandas.DataFrame(rows)


def to_html(text: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A result as a notebook shows it: a few lines, and a table."""
    return fragment(preformatted(text), table(columns, rows))
