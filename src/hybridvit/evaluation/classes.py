"""A model's classes and a folder's, brought together by name."""

from collections.abc import Sequence

from PIL.Image import Image

from hybridvit.data.imagenet import synsets
from hybridvit.data.labels import one_spelling
from hybridvit.data.source import Source
from hybridvit.errors import DataError, some
from hybridvit.evaluation.imagenet import imagenet_labels, knows_imagenet


class Relabelled(Source):
    """A source whose labels count in the order of other class names."""

    def __init__(self, source: Source, class_names: Sequence[str], places: Sequence[int]) -> None:
        """places: for each of the source's classes, its number among class_names."""
        self.source = source
        self.class_names = tuple(class_names)
        self.places = tuple(places)
        self.labels: Sequence[int] = [places[label] for label in source.labels]
        self.counts = source.counts

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        return self.source.name(index)

    def read(self, index: int) -> bytes | Image:
        return self.source.read(index)


def align(
    source: Source, label_names: Sequence[str] | None, *, num_classes: int, model_name: str, data_name: str
) -> Source:
    """Give the pictures the labels of the model's logits.

    A model without class names takes the folder's, if there are as many. The same names in another order are mapped. A
    model of ImageNet's 1,000 classes also takes folders called by synset (some are enough) or by number.

    Raises: DataError when the classes are not the same.
    """
    if knows_imagenet(label_names, num_classes):
        places = imagenet_labels(source.class_names)
        if places is not None and places != list(range(num_classes)):
            return Relabelled(source, label_names or synsets(), places)
    if label_names is None:
        if len(source.class_names) != num_classes:
            raise DataError(
                f"{model_name} knows {num_classes} classes, without their names; {data_name} has "
                f"{len(source.class_names)} class folders. Use the data set it was made for."
            )
        return source
    spelling = one_spelling(source.class_names, label_names)  # é may be one character in one, two in the other
    found = [spelling[name] for name in source.class_names]
    missing = sorted(set(label_names) - set(found))
    unknown = sorted(set(found) - set(label_names))
    if missing or unknown:
        differences = [f"unknown to the model: {some(unknown, 10)}"] if unknown else []
        differences += [f"without a folder: {some(missing, 10)}"] if missing else []
        raise DataError(
            f"The classes of {model_name} ({len(label_names)}) and of {data_name} ({len(source.class_names)}) differ; "
            f"{'; '.join(differences)}. Class folders must be called as in training: {some(label_names, 10)}."
        )
    if tuple(label_names) == tuple(source.class_names):
        return source
    place = {name: number for number, name in enumerate(label_names)}
    return Relabelled(source, label_names, [place[name] for name in found])
