"""What a weights file is and what became of it, as a record."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from hybridvit.output import Described


@dataclass(kw_only=True)
class Report(Described):
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

    def describe(self, *, most: int = 20) -> list[object]:
        """A line for everything, of misfits at most so many."""
        lines = [f"{name:<13} {value}" for name, value in self.rows()]
        lines += [f"does not fit  {problem}" for problem in self.problems[:most]]
        if len(self.problems) > most:
            lines.append(f"does not fit  ... {len(self.problems) - most} more; --json lists all")
        lines += [f"warning       {warning}" for warning in self.warnings]
        return [*lines, *(f"note          {note}" for note in self.notes)]

    def rows(self) -> list[tuple[str, str]]:
        """(name, value) of everything that is always known, in words."""
        size = "not tied to one" if self.image_size is None else "x".join(str(n) for n in self.image_size)
        options = ", ".join(
            f"{key}={value}" for key, value in self.options.items() if key not in ("in_chans", "img_size")
        )
        tensors = self.tensors
        found = [
            ("file", f"{self.file} ({self.bytes / 2**20:.1f} MiB, {self.format})"),
            ("sha256", self.sha256),
            ("source", self.title + (f", behind {self.prefix!r}" if self.prefix else "")),
            ("architecture", self.architecture + (f" with {options}" if options else "")),
            ("resolution", size),
            ("classes", str(self.num_classes or "none (features only)")),
            ("channels", str(self.in_chans)),
            ("parameters", f"{self.parameters:,}"),
            ("weights", ", ".join(f"{name} ({count} tensors)" for name, count in self.sets.items())),
            ("types", ", ".join(f"{kind} ({count})" for kind, count in self.dtypes.items())),
            (
                "tensors",
                f"{tensors['file']} in the file: {tensors['used']} used, {tensors['dropped']} dropped by name; "
                f"{tensors['model']} in the model, {tensors['filled']} of them not in the file",
            ),
        ]
        if self.beside:
            found.append(("beside", ", ".join(f"{name}: {what}" for name, what in self.beside.items())))
        return found
