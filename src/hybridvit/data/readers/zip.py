"""Pictures in a zip file, read without unpacking it."""

import contextlib
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

from hybridvit.data.layout import Entry, member_path
from hybridvit.errors import DataError

MAX_BYTES = 1 << 30
"""Of one picture, unpacked: more than any within the limit of pixels, less than a bomb."""
IS_UTF8 = 0x800  # a bit among a member's flags


class Zip:
    """Members of a zip file, by name. Each process opens the file for itself: a shared one would share its position."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: tuple[int, zipfile.ZipFile] | None = None

    def name(self, place: str) -> str:
        return f"{self.path}/{place}"

    def read(self, place: str) -> bytes:
        """Raises: OSError when it is too large, damaged, encrypted or packed in a way that Python does not know."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), zipfile.ZipFile(self.path)
        archive = self._opened[1]
        try:
            info = archive.getinfo(place)
            if info.file_size > MAX_BYTES:
                raise OSError(f"{self.name(place)} unpacks to {info.file_size} bytes, the limit is {MAX_BYTES}.")
            return archive.read(info)
        except (KeyError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError) as error:
            raise OSError(f"{self.name(place)}: {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}


def list_zip(path: Path) -> list[Entry]:
    """All members, sorted by name. Raises: DataError when it cannot be read as a zip file."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {
                _path(info): info.filename for info in archive.infolist()
            }  # of several of one name, the last counts
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise DataError(f"{path} cannot be read as a zip file: {error}.") from error
    return [Entry(name, members[name]) for name in sorted(members)]


def _path(info: zipfile.ZipInfo) -> str:
    """With / between the names, whatever wrote them; and in UTF-8, where it is UTF-8 and only the flag is missing."""
    name = info.filename
    if not info.flag_bits & IS_UTF8 and not name.isascii():
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return member_path(name.replace("\\", "/"))
