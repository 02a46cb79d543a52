"""Pictures of a torch Dataset: anything with a length that gives (PIL picture, label) by number."""

from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np
from PIL.Image import Image

from hybridvit.data.labels import number_labels
from hybridvit.data.source import Counts, Source
from hybridvit.errors import DataError

NUM_CHECKED = 16
"""Labels that are compared with what the samples say."""


class DatasetSource(Source):
    """The samples of a Dataset, by number."""

    def __init__(
        self,
        dataset: Any,
        class_names: Sequence[str],
        labels: Sequence[int],
        *,
        title: str,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.dataset = dataset
        self.class_names = tuple(class_names)
        self.labels = labels
        self.title = title
        self.counts = Counts(len(labels), {}, notes)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return f"{self.title}/{index}"

    def read(self, index: int) -> Image:
        try:
            picture = self.dataset[index][0]
        except Exception as error:  # whatever the user's code raises for a picture that it cannot give
            raise OSError(f"{self.name(index)}: {type(error).__name__}: {error}") from error
        if not isinstance(picture, Image):
            raise OSError(f"{self.name(index)} is a {type(picture).__name__}, expected a PIL picture")
        return picture


def is_map_style(data: object) -> bool:
    return hasattr(data, "__getitem__") and hasattr(data, "__len__")


def read_torch_dataset(dataset: Any, *, part: str = "", class_names: Sequence[str] | None = None) -> DatasetSource:
    """A source of a map-style Dataset of (PIL picture, label); a label is a class's number or name.

    Labels come from the attribute `targets`, as torchvision's data sets have it, of the data set or of those that a Subset or
    ConcatDataset is made of; else every sample is taken once. Class names come from the caller, from `classes`, or from the
    labels.

    Raises: DataError when the samples are no such pairs, or labels are unknown.
    """
    title = "/".join(filter(None, (type(dataset).__name__, part)))
    if not len(dataset):
        raise DataError(f"{title} holds no pictures.")
    sample = dataset[0]
    if not (isinstance(sample, tuple | list) and len(sample) == 2 and isinstance(sample[0], Image)):
        parts = sample if isinstance(sample, tuple | list) else [sample]
        raise DataError(
            f"{title} gives ({', '.join(type(each).__name__ for each in parts)}), expected (PIL picture, label). Leave out "
            "transforms that make tensors: the recipe's are applied."
        )
    found = _labels(dataset)
    looked_at = np.unique(np.linspace(0, len(found) - 1, NUM_CHECKED).astype(int)).tolist()
    if any(_plain(found[k]) != _plain(dataset[k][1]) for k in looked_at):  # a target_transform, say
        found = [dataset[k][1] for k in range(len(dataset))]
    labels = [_plain(label) for label in found]
    known = class_names or _classes(dataset)
    places = [label for label in labels if isinstance(label, int) and 0 <= label < len(known or ())]
    if known and len(places) == len(labels):  # numbers are places, also among names that are numbers
        return DatasetSource(dataset, known, places, title=title)
    names, numbers, notes = number_labels(list(map(str, labels)), known, source=title)
    return DatasetSource(dataset, names, numbers, title=title, notes=notes)


def _labels(dataset: Any) -> Sequence[Any]:
    targets = getattr(dataset, "targets", None)
    if targets is not None and len(targets) == len(dataset):
        return targets
    if hasattr(dataset, "indices") and hasattr(dataset, "dataset"):
        inner = _labels(dataset.dataset)
        return [inner[index] for index in dataset.indices]
    if hasattr(dataset, "datasets"):
        return [label for each in dataset.datasets for label in _labels(each)]
    return [dataset[index][1] for index in range(len(dataset))]


def _classes(dataset: Any) -> Sequence[str] | None:
    inner = getattr(dataset, "dataset", None) or next(iter(getattr(dataset, "datasets", ())), None)
    return getattr(dataset, "classes", None) or (_classes(inner) if inner is not None else None)


def _plain(label: Any) -> int | str:
    """A number of numpy's or torch's is a number. Raises: DataError for what is neither a whole number nor a name."""
    try:
        return label if isinstance(label, str) else index(label)
    except TypeError:
        raise DataError(f"A label is {label!r}, expected a class's number or name.") from None
