"""Progress on the error stream: a bar on a terminal, a plain line every ten seconds elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import Progress

SECONDS_BETWEEN_LINES = 10.0


@contextlib.contextmanager
def progress(what: str, *, total: int | None = None) -> Iterator[Callable[..., None]]:
    """Give a function that is told how many are done, and of how many where that was not known before; and more in words."""
    console = Console(stderr=True)
    if console.is_terminal:
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done, total=total, words="": bar.update(
                task, completed=done, total=total, description=words or what
            )
        return
    said = time.monotonic()

    def tell(done: int, total: int | None = total, words: str = "") -> None:
        nonlocal said
        if time.monotonic() - said >= SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            print(f"{what}: {words or f'{done} of {total}'}", file=sys.stderr, flush=True)

    yield tell
