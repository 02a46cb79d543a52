"""Pictures that are files in a container: what folders, lists, zip and tar files have in common."""

from collections.abc import Sequence
from typing import Any, Protocol

from hybridvit.data.source import Counts, Source
from hybridvit.output import printable

NO_LABEL = -1


class Container(Protocol):
    """Where files lie. A place says where in it: any value that travels to worker processes."""

    def name(self, place: Any) -> str: ...

    def read(self, place: Any) -> bytes:
        """Raises: OSError."""


class FileSource(Source):
    """Pictures of one container, by number."""

    def __init__(
        self,
        container: Container,
        places: Sequence[Any],
        *,
        class_names: Sequence[str] = (),
        labels: Sequence[int] | None = None,
        counts: Counts | None = None,
    ) -> None:
        self.container = container
        self.places = places
        self.class_names = tuple(class_names)
        self.labels = [NO_LABEL] * len(places) if labels is None else labels
        self.counts = counts or Counts(len(places))

    def __len__(self) -> int:
        return len(self.places)

    def name(self, index: int) -> str:
        return printable(self.container.name(self.places[index]))

    def read(self, index: int) -> bytes:
        return self.container.read(self.places[index])
