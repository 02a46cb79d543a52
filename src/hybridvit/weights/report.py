"""What a weights file is and what became of it, as a record."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class Report:
    """Filled while a file is translated; what `hybridvit inspect --json` prints."""

    file: str
    bytes: int
    sha256: str
    format: str
    source: str
    title: str
    architecture: str
    num_classes: int
    in_chans: int
    image_size: tuple[int, int] | None
    """Height and width that the position tables are for; None where the weights are tied to no size (CvT)."""
    options: dict[str, Any]
    """Fields of the architecture's configuration that this file changes."""
    sets: dict[str, int]
    """Sets of weights in the file, with their numbers of tensors."""
    used_set: str
    beside: dict[str, str]
    """What else lies in the file."""
    prefix: str
    """What wrappers put before every name."""
    dtypes: dict[str, int]
    parameters: int
    tensors: dict[str, int]
    """In the file: file, used, dropped by name. In the model: model, filled as the source has no such thing."""
    problems: list[str] = field(default_factory=list)
    """Why the file cannot be opened: tensors that have no place, are missing, or have another shape."""
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
