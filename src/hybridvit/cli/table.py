"""Tables: drawn by rich on a terminal, aligned plain text elsewhere."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table


def show(headers: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> None:
    """Print a table. Columns of numbers only are aligned to the right; None is a dash."""
    cells = [["-" if value is None else str(value) for value in row] for row in rows]
    numeric = [all(_is_number(row[k]) for row in cells) for k in range(len(headers))]
    console = Console()
    if console.is_terminal:
        table = Table(title=title or None, title_justify="left")
        for header, right in zip(headers, numeric, strict=True):
            table.add_column(header, justify="right" if right else "left", overflow="fold")
        for row in cells:
            table.add_row(*row)
        console.print(table, markup=False)
        return
    if title:
        print(title)
    widths = [max(len(row[k]) for row in [list(headers), *cells]) for k in range(len(headers))]
    for row in [list(headers), *cells]:
        columns = (
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        )
        print("  ".join(columns).rstrip())


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(".", "", 1).replace(",", "").replace("-", "", 1).isdigit()
