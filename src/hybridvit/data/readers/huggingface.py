"""Pictures in a Hugging Face data set, in memory or saved to disk (save_to_disk). Needs the extra `data`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hybridvit.data.labels import number_labels
from hybridvit.data.readers.files import NO_LABEL
from hybridvit.data.source import Counts, Source
from hybridvit.errors import ConfigError, DataError


class HuggingFaceSource(Source):
    """Rows of a data set with a picture column, which is left undecoded, and a label column."""

    def __init__(self, name: str, rows: Any, class_names: Sequence[str], labels: Sequence[int], counts: Counts) -> None:
        self.title = name
        self.rows = rows
        """A datasets.Dataset of one column of {"path", "bytes"}."""
        self.class_names = tuple(class_names)
        self.labels = labels
        self.counts = counts

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        return f"{self.title}/row {index}"

    def read(self, index: int) -> bytes:
        (picture,) = self.rows[index].values()
        if picture is not None and picture["bytes"] is not None:
            return picture["bytes"]
        if picture is None or picture["path"] is None:
            raise OSError(f"{self.name(index)} holds no picture")
        return Path(picture["path"]).read_bytes()


def is_saved_dataset(folder: Path) -> bool:
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def is_dataset(data: object) -> bool:
    """A datasets.Dataset; whoever holds one has imported the library."""
    library = sys.modules.get("datasets")
    return library is not None and isinstance(data, library.Dataset)


def read_saved_dataset(folder: Path, *, labelled: bool = True) -> dict[str, HuggingFaceSource]:
    """The parts of a saved DatasetDict by name, or only "" for a single Dataset: see read_dataset.

    Raises:
        ConfigError: the library `datasets` is not installed.
        DataError: the folder cannot be read, or its columns are not a picture and a label.
    """
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(f"{folder} is a Hugging Face data set: pip install 'hybridvit[data]'") from error
    try:
        loaded = datasets.load_from_disk(str(folder))
    except Exception as error:  # pyarrow and datasets raise many types on damaged files
        raise DataError(f"{folder} cannot be read as a saved Hugging Face data set: {error}") from error
    parts = dict(loaded) if isinstance(loaded, datasets.DatasetDict) else {"": loaded}
    return {name: read_dataset(rows, name=str(folder / name), labelled=labelled) for name, rows in parts.items()}


def read_dataset(rows: Any, *, name: str, labelled: bool = True) -> HuggingFaceSource:
    """The rows of a datasets.Dataset.

    The picture column is the first of type Image, the label column the first ClassLabel, or the one called label. Where
    nobody asks for labels (labelled=False), they are -1, and neither the column nor any value need be there.

    Raises: DataError when there is no such column, or a row has no label.
    """
    import datasets

    rows = rows.with_format(None)
    pictures = [column for column, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    class_names: Sequence[str] = ()
    labels = [NO_LABEL] * len(rows)
    notes: tuple[str, ...] = ()
    if labelled:
        class_names, labels, notes = _labels(name, rows)
    if not pictures:
        raise DataError(f"{name} needs a column of type Image; found {_described(rows.features)}.")
    rows = rows.select_columns([pictures[0]]).cast_column(pictures[0], datasets.Image(decode=False))
    return HuggingFaceSource(name, rows, class_names, labels, Counts(len(rows), {}, notes))


def _labels(name: str, rows: Any) -> tuple[Sequence[str], list[int], tuple[str, ...]]:
    import datasets

    features = rows.features
    columns = [column for column, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    columns = columns or [column for column in ("label", "labels", "class") if column in features]
    if not columns:
        raise DataError(f"{name} needs a column of type ClassLabel or one called label; found {_described(features)}.")
    values = list(rows[columns[0]])
    empty = sum(value is None or value == -1 for value in values)
    if empty:
        raise DataError(
            f"{name} has {empty} rows without a label (none, or -1), as test sets with secret labels have. Remove them."
        )
    class_names: Sequence[str] | None = getattr(features[columns[0]], "names", None)
    if class_names is None:
        return number_labels([str(value) for value in values], None, source=name)
    return class_names, values, ()


def _described(features: Any) -> str:
    return ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
