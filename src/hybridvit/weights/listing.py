"""What there is: architectures with their published weights, and the models of other tasks that stand on them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from typing import Any

from hybridvit.errors import ConfigError
from hybridvit.models.catalog import ARCHITECTURES, Architecture
from hybridvit.models.heads import assembly
from hybridvit.output import Described, Table
from hybridvit.weights.published import WEIGHTS, Weights


@dataclass(frozen=True)
class Architectures(Described):
    """Those whose names were asked for, and their weights."""

    architectures: Mapping[str, Architecture]
    weights: Mapping[str, Weights]

    def to_dict(self) -> dict[str, Any]:
        return {
            "architectures": {name: asdict(entry) for name, entry in self.architectures.items()},
            "weights": {name: asdict(entry) for name, entry in self.weights.items()},
        }

    def describe(self) -> list[object]:
        rows = [
            [name, _pixels(e.preprocess.image_size), f"{e.params / 1e6:.2f}", e.gmacs, e.top1, e.source]
            for name, e in self.architectures.items()
        ]
        blocks: list[object] = [Table(["name", "pixels", "parameters M", "MACs G", "top-1 %", "source"], rows)]
        notes = [f"  {name}: {entry.note}" for name, entry in self.architectures.items() if entry.note]
        blocks += ["", *notes] if notes else []
        if self.weights:
            published = [
                [
                    name,
                    _pixels(e.preprocess.image_size),
                    e.top1,
                    e.licence,
                    e.hub_id or e.url or f"by hand: {e.by_hand}",
                ]
                for name, e in self.weights.items()
            ]
            blocks += ["", Table(["published weights", "pixels", "top-1 %", "licence", "where"], published)]
        return blocks


@dataclass(frozen=True)
class Assembled(Described):
    """Names of detectors, or of segmenters."""

    task: str
    names: Sequence[str]

    def to_dict(self) -> list[str]:
        return list(self.names)

    def describe(self) -> list[object]:
        heads = [f"{head}.timm/MODEL" for head in assembly.HEADS if assembly.HEADS[head].task == self.task]
        return [*self.names, "", f"On any of timm's models that has features: {', '.join(heads)}."]


def list_all(pattern: str = "*", *, task: str = "classification") -> Architectures | Assembled:
    """Raises: ConfigError when no name matches the shell pattern."""
    if task != "classification":
        names = [name for name in assembly.names(task) if fnmatch(name, pattern)]
        if not names:
            raise ConfigError(
                f"No name of a {task} model matches {pattern!r}. `hybridvit models --task {task}` lists all."
            )
        return Assembled(task, names)
    chosen = {name: entry for name, entry in ARCHITECTURES.items() if fnmatch(name, pattern)}
    if not chosen:
        raise ConfigError(f"No model's name matches {pattern!r}. `hybridvit models` lists all.")
    return Architectures(chosen, {name: e for name, e in WEIGHTS.items() if name.partition(".")[0] in chosen})


def _pixels(size: tuple[int, int]) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]} x {size[1]}"
