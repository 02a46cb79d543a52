"""A model's classes and a folder's, brought together by name."""

from collections.abc import Sequence

from hybridvit.data.source import Source
from hybridvit.errors import DataError


class Relabelled:
    """A source whose labels count in the order of other class names."""

    def __init__(self, source: Source, class_names: Sequence[str]) -> None:
        position = {name: label for label, name in enumerate(class_names)}
        self.source = source
        self.class_names = tuple(class_names)
        self.labels: Sequence[int] = [position[source.class_names[label]] for label in source.labels]

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        return self.source.name(index)

    def read(self, index: int) -> bytes:
        return self.source.read(index)


def align(
    source: Source, label_names: Sequence[str] | None, *, num_classes: int, model_name: str, data_name: str
) -> Source:
    """Give the pictures the labels of the model's logits.

    A model without class names takes the folder's, if there are as many. The same names in another order are mapped.

    Raises: DataError when the classes are not the same.
    """
    if label_names is None:
        if len(source.class_names) != num_classes:
            raise DataError(
                f"{model_name} knows {num_classes} classes, without their names; {data_name} has "
                f"{len(source.class_names)} class folders. Use the data set it was made for."
            )
        return source
    missing = [name for name in label_names if name not in source.class_names]
    unknown = [name for name in source.class_names if name not in label_names]
    if missing or unknown:
        differences = [f"unknown to the model: {_some(unknown)}"] if unknown else []
        differences += [f"without a folder: {_some(missing)}"] if missing else []
        raise DataError(
            f"The classes of {model_name} ({len(label_names)}) and of {data_name} ({len(source.class_names)}) differ; "
            f"{'; '.join(differences)}. Class folders must be called as in training: {_some(label_names)}."
        )
    return source if tuple(label_names) == tuple(source.class_names) else Relabelled(source, label_names)


def _some(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
