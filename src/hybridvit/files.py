"""Writing files so that they appear complete or not at all, even when the machine stops in between."""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from hybridvit.errors import DataError


@contextlib.contextmanager
def replacing(path: str | Path, *, by_way_of: Path | None = None, keep: bool = False) -> Iterator[Path]:
    """Give a temporary path in the same folder (made if missing); it takes the final name when the block ends well.

    by_way_of: another folder, on the same disk, for the temporary file.
    keep: a file that is there by then, another process's perhaps, stays.

    Raises: OSError when the folder or the file cannot be written.
    """
    path = Path(path)
    for folder in (path.parent, by_way_of or path.parent):
        folder.mkdir(parents=True, exist_ok=True)
    temporary = (by_way_of or path.parent) / f".{secrets.token_hex(4)}.{path.name}"
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # safetensors makes its files private; this one gets what any new file gets
        sync(temporary)
        if keep:
            _link(temporary, path)
        else:
            temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except OSError:  # it is there, or this disk has no links
        if not path.exists():
            temporary.replace(path)


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """As `replacing`, for a file that somebody asked for. Raises: DataError when it cannot be written."""
    try:
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}") from error


def sync(path: Path) -> None:
    """Wait until a file's contents, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(path: Path, algorithm: str = "sha256") -> str:
    """A file's hash, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
