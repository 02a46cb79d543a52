"""What --data names, or what is in memory, opened: the parts of a data set, whatever it is kept in.

A data set has parts (train; test, val or validation) or is one whole. Parts are found as

    DIR/train/        and DIR/test/           each of class folders or of tar files
    DIR/train.zip     and DIR/val.zip         or one FILE.zip with train/ and val/ in it
    DIR/train.txt     and DIR/val.txt         list files; .csv, .tsv and .lst, too
    DIR/train-00.tar  and DIR/val-00.tar      tar files, any number of them; or one FILE.tar with train/ and val/ in it
    DIR/dataset_dict.json                     saved by the Hugging Face library
    {"train": ..., "test": ...}               of torch Datasets or Hugging Face data sets, a DatasetDict among them
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hybridvit.data.layout import (
    PARTS,
    TESTS,
    TRAIN,
    WHOLE,
    Entry,
    arrange,
    by_part,
    count_beside,
    find_parts,
    is_hidden,
    near_parts,
    why_not,
)
from hybridvit.data.readers.files import Container, FileSource
from hybridvit.data.readers.folder import read_folder, walk
from hybridvit.data.readers.huggingface import is_dataset, is_saved_dataset, read_dataset, read_saved_dataset
from hybridvit.data.readers.lists import SUFFIXES, check_there, read_list
from hybridvit.data.readers.memory import is_map_style, read_torch_dataset
from hybridvit.data.readers.tar import Tar, list_tar
from hybridvit.data.readers.zip import Zip, list_zip
from hybridvit.data.source import Counts, Source, Splits
from hybridvit.data.split import hold_out
from hybridvit.errors import DataError, some
from hybridvit.output import printable

CONTAINERS = (".zip", ".tar", *SUFFIXES)
Opener = Callable[[Sequence[str] | None], Source]
"""Opens one part; gets the class names of the training part, for kinds that do not bring their own."""
Openers = dict[str, Opener]
Data = Any
"""A path; a torch Dataset of (PIL picture, label); a datasets.Dataset; or a mapping of these by part."""


def open_splits(data: Data, *, root: Path | None = None, columns: Sequence[str] = (), val_split: float = 0.0) -> Splits:
    """Open a data set to train on. With val_split, a whole is divided, and a training part without a test part, too.

    Raises:
        DataError: nothing there that can be read, a part is missing, the classes differ, or there are fewer than two.
    """
    where = _title(data)
    openers = _find(data, root, columns)
    tests = [name for name in TESTS if name in openers]
    if val_split:
        if tests:
            raise DataError(f"{where} has its own {tests[0]} part; --val-split is for data sets without one.")
        whole = next((openers[name] for name in (TRAIN, WHOLE) if name in openers), None)
        if whole is None:
            raise DataError(
                f"{where} has the parts {', '.join(openers)}; --val-split divides a part train, or a whole."
            )
        return _checked(hold_out(whole(None), val_split), where)
    if TRAIN not in openers or len(tests) != 1:
        raise _unusable(data, where, openers)
    train = openers[TRAIN](None)
    return _checked(Splits(train=train, test=openers[tests[0]](train.class_names)), where)


def open_test(
    data: Data, *, root: Path | None = None, columns: Sequence[str] = (), val_split: float = 0.0
) -> tuple[str, Source]:
    """The part to be evaluated on, with its name: test or val, the share that was held out, or the whole.

    Raises: DataError as open_splits.
    """
    where = _title(data)
    if val_split:
        splits = open_splits(data, root=root, columns=columns, val_split=val_split)
        return f"{where} (the {val_split:g} held out)", splits.test
    openers = _find(data, root, columns)
    if WHOLE in openers:
        return where, openers[WHOLE](None)
    tests = [name for name in TESTS if name in openers]
    if len(tests) != 1:
        raise _unusable(data, where, openers)
    own_names = _is_folders(data)
    train_names = openers[TRAIN](None).class_names if TRAIN in openers and not own_names else None
    return f"{where}/{tests[0]}", openers[tests[0]](train_names)


def open_parts(data: Data, *, root: Path | None = None, columns: Sequence[str] = ()) -> dict[str, Source]:
    """Every part there is, by name; "" where the data set is one whole. Raises: DataError as open_splits."""
    parts: dict[str, Source] = {}
    class_names: Sequence[str] | None = None
    for name, opener in _find(data, root, columns).items():
        parts[name] = opener(class_names)
        if class_names is not None and tuple(parts[name].class_names) != tuple(class_names):
            raise _other_classes(_title(data), class_names, parts[name].class_names)
        class_names = parts[name].class_names
    return parts


def _find(data: Data, root: Path | None, columns: Sequence[str]) -> Openers:
    """How to open each part; a whole has the name "". Nothing is read yet but the names in archives and top folders."""
    if isinstance(data, Mapping):
        return {part: _in_memory(each, part) for part, each in data.items()}
    if not isinstance(data, str | Path):
        return {WHOLE: _in_memory(data, WHOLE)}
    path = Path(data)
    if not path.exists():
        raise DataError(f"{path} does not exist.")
    if path.is_file():
        return _find_in_file(path, root, columns)
    if is_saved_dataset(path):
        return {name: _as_opened(source) for name, source in read_saved_dataset(path).items()}
    lists = [path / f"{part}{suffix}" for part in PARTS for suffix in SUFFIXES]
    zips = [path / f"{part}.zip" for part in PARTS]
    folders = _folders(path)
    parts = [part for part in PARTS if part in folders]
    if parts:
        beside = count_beside(walk(path, skip=parts)[0])
        return {part: _open_folder(path / part, beside if part == parts[0] else None) for part in parts}
    if any(file.is_file() for file in lists):
        return {file.stem: partial(_open_list, file, root, columns) for file in lists if file.is_file()}
    if any(file.is_file() for file in zips):
        return {file.stem: _single(_find_in_file(file, root, columns), file) for file in zips if file.is_file()}
    shards = sorted(path.glob("*.tar"))
    if shards:
        by_name = {part: [shard for shard in shards if _first_word(shard) == part] for part in PARTS}
        found = {part: _single(_open_shards(own), own[0]) for part, own in by_name.items() if own}
        return found or _open_shards(shards)
    if len(folders) == 1 and not _pictures(path) and _folders(path / folders[0]) and not _pictures(path / folders[0]):
        return _find(path / folders[0], root, columns)  # it holds everything
    find_parts(folders, where=path)
    return {WHOLE: _open_folder(path)}


def _find_in_file(path: Path, root: Path | None, columns: Sequence[str]) -> Openers:
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return {WHOLE: partial(_open_list, path, root, columns)}
    if suffix == ".tar":
        return _open_shards([path])
    if suffix == ".zip":
        return _arranged(Zip(path), list_zip(path), path)
    raise DataError(f"{path} is neither a folder nor a list ({', '.join(SUFFIXES)}), a .zip or a .tar file.")


def _arranged(container: Container, entries: Sequence[Entry], path: Path) -> Openers:
    """The parts of an archive."""
    parts, beside = by_part(entries, where=path)

    def opened(part: str, counted: Counts, class_names: Sequence[str] | None) -> Source:
        found = arrange(parts[part], where=path, class_names=class_names, beside=counted)
        return FileSource(
            container, found.places, class_names=found.class_names, labels=found.labels, counts=found.counts
        )

    first = next(iter(parts))
    return {part: partial(opened, part, beside if part == first else Counts()) for part in parts}


def _open_shards(paths: Sequence[Path]) -> Openers:
    return _arranged(Tar(paths), list_tar(paths, labelled=True), paths[0])


def _open_folder(folder: Path, beside: Counts | None = None) -> Opener:
    shards = sorted(folder.glob("*.tar"))
    if shards:
        return _single(_open_shards(shards), folder)
    return lambda class_names: read_folder(folder, class_names=class_names, beside=beside)


def _open_list(path: Path, root: Path | None, columns: Sequence[str], class_names: Sequence[str] | None) -> Source:
    source = read_list(path, root=root, class_names=class_names, columns=columns)
    check_there(source, where=path)
    return source


def _in_memory(data: Any, part: str) -> Opener:
    if is_dataset(data):
        return _as_opened(read_dataset(data, name=f"Dataset/{part}" if part else "Dataset"))
    if is_map_style(data) and not isinstance(data, str | bytes):
        return lambda class_names: read_torch_dataset(data, part=part, class_names=class_names)
    raise DataError(
        f"Data is a {type(data).__name__}; expected a path, a map-style torch Dataset of (PIL picture, label), a Hugging Face "
        "data set, or a mapping of these by part (train, test)."
    )


def _as_opened(source: Source) -> Opener:
    return lambda _: source


def _single(openers: Openers, path: Path) -> Opener:
    """An archive that is one part: a whole, or with a single part of that very name inside."""
    (name, *more) = openers
    if more or name not in (WHOLE, _first_word(path)):
        raise DataError(f"{path} has parts of its own ({', '.join(openers)}); name it itself with --data.")
    return openers[name]


def _folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not is_hidden(entry.name))


def _pictures(path: Path) -> list[str]:
    """Directly in a folder."""
    return [entry.name for entry in path.iterdir() if why_not(entry.name) is None and entry.is_file()]


def _is_folders(data: Data) -> bool:
    """Each part brings its own class folders: the training part need not be listed for its names."""
    return isinstance(data, str | Path) and any((Path(data) / name).is_dir() for name in TESTS)


def _first_word(path: Path) -> str:
    return re.split("[^a-z]", path.name, maxsplit=1)[0]


def _title(data: Data) -> str:
    return printable(str(data)) if isinstance(data, str | Path) else f"The {type(data).__name__}"


def _checked(splits: Splits, where: str) -> Splits:
    train, test = splits.train.class_names, splits.test.class_names
    if tuple(train) != tuple(test):
        raise _other_classes(where, train, test)
    if len(train) < 2:
        raise DataError(f"{where} has one class ({', '.join(train)}); telling classes apart takes two.")
    return splits


def _other_classes(where: str, train: Sequence[str], test: Sequence[str]) -> DataError:
    differences = [
        f"only in {part}: {some(sorted(set(one) - set(other)))}"
        for part, one, other in (("train", train, test), ("the other", test, train))
        if set(one) - set(other)
    ]
    return DataError(
        f"{where}: the classes of its parts differ ({'; '.join(differences) or 'in their order'}). Give all parts the same."
    )


def _unusable(data: Data, where: str, openers: Openers) -> DataError:
    if WHOLE in openers:
        return DataError(
            f"{where} is one whole. Training takes a part train and one of {', '.join(TESTS)}. "
            "Use --val-split 0.2 to hold out a fifth of the pictures of a data set in one piece."
        )
    near = near_parts({*openers, *_upper_names(data)})
    tests = [name for name in TESTS if name in openers]
    if near:
        advice = f" Is {some(near)} meant for one of them? Rename it."
    elif len(tests) > 1:
        advice = f" Name the one that you mean with --data, or move {', '.join(tests[1:])} elsewhere."
    elif not tests:
        advice = (
            " To train, --val-split 0.2 holds out a fifth of it, and evaluates on that fifth with `hybridvit eval` too."
        )
    else:
        advice = f" There is nothing to learn from; `hybridvit eval` evaluates on {tests[0]}."
    found = "the part" if len(openers) == 1 else "the parts"
    return DataError(
        f"{where} has {found} {', '.join(openers)}. Expected {TRAIN}, and exactly one of {', '.join(TESTS)}.{advice}"
    )


def _upper_names(data: Data) -> set[str]:
    """What might be meant for a part: names of the folders at the top and one below, and of the files at a folder's top."""
    if not isinstance(data, str | Path):
        return set()
    path = Path(data)
    if path.is_dir():
        entries, files = walk(path)[0], {file.stem for file in path.iterdir() if file.suffix in CONTAINERS}
    else:
        entries, files = list_zip(path) if path.suffix.lower() == ".zip" else list_tar([path], labelled=False), set()
    return files | {name for entry in entries for name in entry.path.split("/")[:-1][:2]}
