"""Pictures whose labels nobody asks for: named one by one, by folder, in a list, or in an archive."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from hybridvit.data.archive import ZipSource, list_members
from hybridvit.data.folder import EXTENSIONS, FolderSource, find_pictures
from hybridvit.data.huggingface import is_saved_dataset, read_saved_dataset
from hybridvit.data.listfile import SUFFIXES, read_paths
from hybridvit.data.shards import ShardSource, list_pictures_in
from hybridvit.data.source import Source
from hybridvit.errors import DataError

NO_LABEL = -1
CONTAINERS = (".zip", ".tar", *SUFFIXES)


class LooseSource(Source):
    """Pictures of several places, one after the other. Their labels say that there is none."""

    def __init__(self, sources: Sequence[Source], class_names: Sequence[str]) -> None:
        self.sources = sources
        self.class_names = tuple(class_names)
        self.places = [(source, index) for source in sources for index in range(len(source))]
        self.labels: Sequence[int] = [NO_LABEL] * len(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def name(self, index: int) -> str:
        source, place = self.places[index]
        return source.name(place)

    def read(self, index: int) -> bytes:
        source, place = self.places[index]
        return source.read(place)


def open_loose(
    paths: Sequence[str | Path], class_names: Sequence[str] = (), *, root: Path | None = None
) -> LooseSource:
    """Files as they are named, whatever their suffix; all pictures of folders, of list, zip and tar files, and of saved
    Hugging Face data sets. Labels, where there are any, are passed over, and none are needed.

    `root` is where the paths of list files start, by default beside the list; none may lead out of it.

    Raises: DataError for what does not exist, cannot be read, or holds no pictures.
    """
    return LooseSource([source for path in paths for source in _open(Path(path), root)], class_names)


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
            raise _empty(path)
        found += inside
    return found


def _open(path: Path, root: Path | None) -> Sequence[Source]:
    if not path.exists():
        raise _missing(path)
    if not path.is_dir():
        return [_open_file(path, root)]
    if is_saved_dataset(path):
        return list(read_saved_dataset(path, labelled=False).values())
    names = list(find_pictures(path))
    if names:
        return [_files(path, names)]
    kept = sorted(file for file in path.iterdir() if file.suffix.lower() in CONTAINERS and file.is_file())
    if not kept:
        raise _empty(path)
    return list(chain.from_iterable(_open(file, root) for file in kept))


def _open_file(path: Path, root: Path | None) -> Source:
    suffix = path.suffix.lower()
    if suffix == ".zip":
        members = list_members(path)
        return ZipSource(path, (), members, [NO_LABEL] * len(members))
    if suffix == ".tar":
        pictures = list_pictures_in(path)
        return ShardSource([path], (), pictures, [NO_LABEL] * len(pictures))
    if suffix in SUFFIXES:
        return _files(path.parent if root is None else root, read_paths(path, root=root))
    return _files(Path(), [str(path)])


def _files(root: Path, paths: Sequence[str]) -> FolderSource:
    return FolderSource(root, (), paths, [NO_LABEL] * len(paths))


def _missing(path: Path) -> DataError:
    return DataError(f"{path} does not exist.")


def _empty(path: Path) -> DataError:
    return DataError(f"{path} holds no pictures ({', '.join(EXTENSIONS)}).")
