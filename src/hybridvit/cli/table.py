"""What results say of themselves, printed: tables are drawn by rich on a terminal, and are plain text elsewhere."""

from typing import Any

from rich.console import Console
from rich.table import Table as Drawn

from hybridvit.output import Table, printable, to_json


def tell(found: Any, *, as_json: bool, **about: str) -> None:
    """Print a result: in words and tables, or as JSON below `about`."""
    print(to_json({**about, **found.to_dict()})) if as_json else show(*found.describe())


def show(*blocks: object) -> None:
    """Print texts and tables, one under another."""
    console = Console()
    for block in blocks:
        if not (isinstance(block, Table) and console.is_terminal):
            print(printable(str(block)))
            continue
        drawn = Drawn(title=block.title or None, title_justify="left")
        for header, right in zip(block.header, block.numeric, strict=True):
            drawn.add_column(header, justify="right" if right else "left", overflow="fold")
        for row in block.cells:
            drawn.add_row(*map(printable, row))
        console.print(drawn, markup=False)
