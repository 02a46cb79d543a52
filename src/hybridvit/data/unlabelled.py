"""Pictures whose labels nobody asks for: named one by one, by folder, in a list, or in an archive."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from PIL.Image import Image

from hybridvit.data.decode import endings
from hybridvit.data.layout import pictures
from hybridvit.data.readers.files import NO_LABEL, FileSource
from hybridvit.data.readers.folder import Folder, find_pictures, walk
from hybridvit.data.readers.huggingface import is_saved_dataset, read_saved_dataset
from hybridvit.data.readers.lists import SUFFIXES, check_there, read_paths
from hybridvit.data.readers.tar import Tar, list_tar
from hybridvit.data.readers.zip import Zip, list_zip
from hybridvit.data.source import Counts, Source
from hybridvit.data.split import Subset
from hybridvit.errors import DataError

CONTAINERS = (".zip", ".tar", *SUFFIXES)


class Unlabelled(Source):
    """Pictures of several places, one after the other. Their labels say that there is none."""

    def __init__(self, sources: Sequence[Source], class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)
        self.sources = sources
        self.places = [(source, index) for source in sources for index in range(len(source))]
        self.labels: Sequence[int] = [NO_LABEL] * len(self.places)
        self.counts = Counts.total(source.counts for source in sources)

    def __len__(self) -> int:
        return len(self.places)

    def name(self, index: int) -> str:
        source, place = self.places[index]
        return source.name(place)

    def read(self, index: int) -> bytes | Image:
        source, place = self.places[index]
        return source.read(place)


def open_unlabelled(
    paths: Sequence[str | Path],
    class_names: Sequence[str] = (),
    *,
    root: Path | None = None,
    columns: Sequence[str] = (),
) -> Unlabelled:
    """Files as they are named, whatever their suffix; all pictures of folders, of list, zip and tar files, and of saved
    Hugging Face data sets. Labels, where there are any, are passed over, and none are needed.

    `root` is where the paths of list files start, by default beside the list; none may lead out of it.

    Raises: DataError for what does not exist, cannot be read, or holds no pictures.
    """
    return Unlabelled([source for path in paths for source in _open(Path(path), root, columns)], class_names)


def list_pictures(paths: Sequence[str | Path]) -> list[Path]:
    """Files as they are named, whatever their suffix; of a folder, all pictures in it at any depth.

    Raises: DataError for a path that does not exist and for a folder without pictures.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise _missing(path)
        inside = [path / name for name in find_pictures(path)] if path.is_dir() else [path]
        if not inside:
            raise _empty(path, Counts())
        found += inside
    return found


def shards(paths: Sequence[str | Path]) -> list[Path]:
    """The paths, with a folder in which nothing but archives and lists is to be read replaced by these."""
    found: list[Path] = []
    for path in map(Path, paths):
        inside = _containers(path) if path.is_dir() and not is_saved_dataset(path) else []
        found += inside if inside and not find_pictures(path) else [path]
    return found


def open_shard(path: Path) -> FileSource:
    """All pictures of a tar file; there may be none. Raises: DataError when it cannot be read."""
    places, counts = pictures(list_tar([path], labelled=False))
    return FileSource(Tar([path]), places, counts=counts)


def parts_of(source: Source, size: int) -> list[Source]:
    """The source's pictures in order, `size` to a part, and each part without the rest of the listing."""
    bounds = [range(start, min(start + size, len(source))) for start in range(0, len(source), size)]
    if isinstance(source, FileSource):
        return [FileSource(source.container, source.places[part.start : part.stop]) for part in bounds]
    return [Subset(source, part) for part in bounds]


def _open(path: Path, root: Path | None, columns: Sequence[str]) -> Sequence[Source]:
    if not path.exists():
        raise _missing(path)
    if not path.is_dir():
        return [_open_file(path, root, columns)]
    if is_saved_dataset(path):
        return list(read_saved_dataset(path, labelled=False).values())
    entries, loops = walk(path)
    places, counts = pictures(entries)
    if places:
        return [FileSource(Folder(path), places, counts=Counts.total([counts, loops]))]
    kept = _containers(path)
    if not kept:
        raise _empty(path, counts)
    return list(chain.from_iterable(_open(file, root, columns) for file in kept))


def _containers(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in CONTAINERS and file.is_file())


def _open_file(path: Path, root: Path | None, columns: Sequence[str]) -> Source:
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        source = read_paths(path, root=root, columns=columns)
        check_there(source, where=path)
        return source
    if suffix not in (".zip", ".tar"):
        return FileSource(Folder(path.parent), [path.name])
    if suffix == ".zip":
        places, counts = pictures(list_zip(path))
        source = FileSource(Zip(path), places, counts=counts)
    else:
        source = open_shard(path)
    if not len(source):
        raise _empty(path, source.counts)
    return source


def _missing(path: Path) -> DataError:
    return DataError(f"{path} does not exist.")


def _empty(path: Path, counts: Counts) -> DataError:
    found = f" (of {counts})" if counts.seen else ""
    return DataError(f"{path} holds no pictures ({', '.join(sorted(endings()))}){found}.")
