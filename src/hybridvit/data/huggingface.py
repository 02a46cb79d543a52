"""Pictures in a Hugging Face data set that was saved to disk (Dataset.save_to_disk). Needs the extra `data`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hybridvit.data.labels import number_labels
from hybridvit.data.source import Source
from hybridvit.errors import ConfigError, DataError


class HuggingFaceSource(Source):
    """Rows of a data set with a picture column, which is left undecoded, and a label column."""

    def __init__(self, path: Path, rows: Any, class_names: Sequence[str], labels: Sequence[int]) -> None:
        self.path = path
        self.rows = rows
        """A datasets.Dataset of one column of {"path", "bytes"}."""
        self.class_names = tuple(class_names)
        self.labels = labels

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        return f"{self.path}/row {index}"

    def read(self, index: int) -> bytes:
        (picture,) = self.rows[index].values()
        if picture["bytes"] is not None:
            return picture["bytes"]
        return Path(picture["path"]).read_bytes()


def is_saved_dataset(folder: Path) -> bool:
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def read_saved_dataset(folder: Path, *, labelled: bool = True) -> dict[str, HuggingFaceSource]:
    """The parts of a saved DatasetDict by name, or only "" for a single Dataset.

    The picture column is the first of type Image, the label column the first ClassLabel, or the one called label. Where
    nobody asks for labels (labelled=False), they are -1, and neither the column nor any value need be there.

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
    return {name: _source(folder / name, rows, labelled) for name, rows in parts.items()}


def _source(path: Path, rows: Any, labelled: bool) -> HuggingFaceSource:
    import datasets

    features = rows.features
    pictures = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    class_names: Sequence[str] = ()
    labels = [-1] * len(rows)
    if labelled:
        class_names, labels = _labels(path, rows)
    if not pictures:
        raise DataError(f"{path} needs a column of type Image; found {_described(features)}.")
    rows = rows.select_columns([pictures[0]]).cast_column(pictures[0], datasets.Image(decode=False))
    return HuggingFaceSource(path, rows, class_names, labels)


def _labels(path: Path, rows: Any) -> tuple[Sequence[str], list[int]]:
    import datasets

    features = rows.features
    labels = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    labels = labels or [name for name in ("label", "labels", "class") if name in features]
    if not labels:
        raise DataError(f"{path} needs a column of type ClassLabel or one called label; found {_described(features)}.")
    values = list(rows[labels[0]])
    class_names: Sequence[str] | None = getattr(features[labels[0]], "names", None)
    if class_names is None:
        return number_labels([str(value) for value in values], None, source=str(path))
    if min(values) < 0:
        raise DataError(f"{path} has rows without a label (-1), as test sets with secret labels have. Remove them.")
    return class_names, values


def _described(features: Any) -> str:
    return ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
