"""Pictures in tar files, in class folders or in the webdataset layout, read by number.

KEY.jpg goes with KEY.cls (the label) or KEY.json ({"label": ...}), wherever they lie in the same file. A key ends at the last or
at the first dot: a.0.jpg has the label a.0.cls, or a.cls. The members are listed once and the list is kept beside the files.
From then on a picture is one seek and one read, so samples keep their addresses: ranks and workers share the files as they share
a folder, and runs resume exactly. The files must lie on a disk, not behind a pipe.
"""

import contextlib
import json
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hybridvit.data.layout import Entry, member_path, why_not
from hybridvit.errors import DataError, some
from hybridvit.files import replacing
from hybridvit.output import printable

INDEX_FILE = ".{name}.index.json"
FORMAT = 3
SIDECARS = (".cls", ".json")
MAX_SIDECAR = 1 << 20
"""Bytes of a file with a label."""


class Place(NamedTuple):
    """Number of the tar file, bytes from its beginning, length in bytes, the member's name."""

    shard: int
    offset: int
    size: int
    name: str


class Tar:
    """Members of several tar files."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def name(self, place: Place) -> str:
        return f"{self.paths[place.shard]}/{place.name}"

    def read(self, place: Place) -> bytes:
        with self.paths[place.shard].open("rb") as file:
            file.seek(place.offset)
            return file.read(place.size)


def list_tar(paths: Sequence[Path], *, labelled: bool) -> list[Entry]:
    """All members of tar files in the files' order; a picture with the label that the file tells, if any and if asked for.

    Raises:
        DataError: a file is damaged or compressed, or a label cannot be read, or is one for several pictures.
    """
    if not labelled:
        return [entry for number, path in enumerate(paths) for entry in _list(path, number, labelled=False)]
    index = paths[0].parent / INDEX_FILE.format(name=paths[0].stem)
    state = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
    entries = _load_index(index, state)
    if entries is None:
        entries = [entry for number, path in enumerate(paths) for entry in _list(path, number, labelled=True)]
        _keep_index(index, state, entries)
    return entries


def _list(path: Path, number: int, *, labelled: bool) -> Iterator[Entry]:
    members: dict[str, tarfile.TarInfo] = {}
    try:
        with tarfile.open(path, "r:") as archive:  # the colon: uncompressed only, or offsets would mean nothing
            for info in archive:
                name = member_path(info.name)
                if info.islnk():  # the same file once more
                    info = members.get(member_path(info.linkname), info)
                if info.isdir():
                    yield Entry(member_path(f"{info.name}/"), None)
                elif info.isreg():
                    members[name] = info  # of several of one name, the last counts
                else:
                    yield Entry(name, None, reason="no regular file")  # a link could point at any file of the machine
            labels, sidecars = _labels(archive, members, path) if labelled else ({}, set())
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(
            f"{path} cannot be read as an uncompressed tar file: {error}. "
            "Unpack .tar.gz first: pictures are compressed already."
        ) from error
    for name, info in members.items():
        if name not in sidecars:
            label, reason = labels.get(name, (None, None))
            yield Entry(name, Place(number, info.offset_data, info.size, name), label, reason)


def _labels(
    archive: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], path: Path
) -> tuple[dict[str, tuple[str | None, str | None]], set[str]]:
    """Label, or why there is none, of the pictures with a file beside them; and these files.

    Of KEY.jpg and KEY.mask.png, with one KEY.cls, the first is the picture, the second something about it.
    """
    files = {_split(name): name for name in members if name.lower().endswith(SIDECARS)}
    samples: dict[str, list[str]] = defaultdict(list)
    for name in members:
        if why_not(name) is None:
            folder, slash, file = name.rpartition("/")
            keys = (name.rpartition(".")[0], folder + slash + file.partition(".")[0])
            own = next((files[key, end] for end in SIDECARS for key in keys if (key, end) in files), None)
            if own:
                samples[own].append(name)
    labels: dict[str, tuple[str | None, str | None]] = {}
    for sidecar, names in samples.items():
        key, _ = _split(sidecar)
        plain = [name for name in names if name.rpartition(".")[0] == key] if len(names) > 1 else names
        if len(plain) != 1:
            raise DataError(f"{path}: {printable(sidecar)} labels several pictures: {some(names)}. Give each its own.")
        labels |= dict.fromkeys(names, (None, "further files of a sample"))
        labels[plain[0]] = _read_label(archive, members[sidecar], path), None
    return labels, set(samples)


def _split(sidecar: str) -> tuple[str, str]:
    key, _, ending = sidecar.rpartition(".")
    return key, f".{ending.lower()}"


def _read_label(archive: tarfile.TarFile, info: tarfile.TarInfo, path: Path) -> str:
    where = f"{path}: {printable(info.name)}"
    file = archive.extractfile(info)
    if file is None or info.size > MAX_SIDECAR:
        raise DataError(f"{where} has {info.size} bytes, a label at most {MAX_SIDECAR}.")
    text = file.read().decode("utf-8", errors="replace").strip()
    label: Any = text
    if info.name.lower().endswith(".json"):
        try:
            label = json.loads(text).get("label")
        except (ValueError, AttributeError, RecursionError):
            raise DataError(f"{where} is not a JSON object.") from None
    if label is None or str(label).strip() == "":
        raise DataError(f'{where} has no label. Expected a class in KEY.cls, or KEY.json with "label".')
    return str(label)


def _load_index(path: Path, state: Sequence[Sequence[Any]]) -> list[Entry] | None:
    """The kept list, if it is of these very files."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["format"] == FORMAT and kept["shards"] == state:
            return [Entry(name, place and Place(*place), *said) for name, place, *said in kept["members"]]
    return None


def _keep_index(path: Path, state: Sequence[Sequence[Any]], entries: Sequence[Entry]) -> None:
    with (
        contextlib.suppress(OSError),
        replacing(path) as temporary,
    ):  # in a read-only folder the list is made anew each time
        temporary.write_text(json.dumps({"format": FORMAT, "shards": state, "members": entries}), encoding="utf-8")
