"""Logits on disk: numpy's .npz, which any tool with numpy opens and which never runs code.

Arrays: logits (N, K) float32, labels (N,) int64, paths (N,), class_names (K,) and broken (pictures that could not be
read, may be missing) as Unicode.
"""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from hybridvit.data.source import Source
from hybridvit.errors import DataError
from hybridvit.evaluation.calibration import calibration_error, calibration_section, reliability
from hybridvit.evaluation.metrics import ClassMetrics, Metrics, measure, softmax
from hybridvit.files import writing
from hybridvit.render.page import Thumbnail, fragment, note, pictures, read_or_grey, section, tiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARRAYS = ("logits", "labels", "paths", "class_names")
LOGITS = "logits.npz"
"""In a run's folder: the answers of its last evaluation."""
WORST = 24
"""Mistakes that are shown."""


@dataclass(frozen=True)
class Result:
    """What a model said about every picture of a data set.

    Shape: logits (N, K) float32, labels (N,) int64; paths N; class_names K.
    """

    logits: np.ndarray
    labels: np.ndarray
    paths: tuple[str, ...]
    class_names: tuple[str, ...]
    broken: tuple[str, ...] = ()
    """Pictures that could not be read. They are in no figure."""
    source: Source | None = field(default=None, repr=False, compare=False)
    """Where the pictures are, to look at some again; not kept in files."""
    numbers: tuple[int, ...] = field(default=(), repr=False, compare=False)
    """Of the pictures in the source."""

    @cached_property
    def metrics(self) -> Metrics:
        """Raises: DataError as evaluate.metrics.measure does."""
        return measure(self.logits, self.labels, self.class_names)

    @cached_property
    def calibration_error(self) -> float:
        """In percent; evaluate.calibration says how."""
        return calibration_error(self.logits, self.labels)

    @property
    def figures(self) -> Mapping[str, float | None]:
        return self.metrics.figures

    @property
    def top1(self) -> float:
        """In percent."""
        return self.metrics.top1

    @property
    def per_class(self) -> dict[str, ClassMetrics]:
        return {one.name: one for one in self.metrics.classes}

    @property
    def confusion(self) -> np.ndarray:
        """Pictures by true class (row) and predicted class (column)."""
        return np.array(self.metrics.confusion)

    def to_dict(self) -> dict[str, Any]:
        return {**self.metrics.to_dict(), "calibration_error": self.calibration_error, "broken": list(self.broken)}

    def to_frame(self) -> Any:
        """A pandas.DataFrame with a row per class."""
        return self.metrics.to_frame()

    def __str__(self) -> str:
        return str(self.metrics)

    def tiles(self) -> dict[str, object]:
        """The figures that matter most, in words."""
        broken = f"{len(self.broken)}, in no figure" if self.broken else None
        return self.metrics.tiles() | {"calibration error": f"{self.calibration_error:.2f} %", "not read": broken}

    def sections(self) -> list[Markup]:
        """For pages: confusion, classes, calibration."""
        return [*self.metrics.sections(), calibration_section(reliability(self.logits, self.labels))]

    def plot(self) -> "Figure":
        """The confusion matrix. Raises: ConfigError without matplotlib."""
        return self.metrics.plot()

    def _repr_html_(self) -> str:
        return fragment(tiles(self.tiles()), *self.sections(), self._worst())

    def _worst(self) -> Markup:
        """The most confident mistakes, with their pictures where they can still be read."""
        indices, items = self.mistakes()[:WORST], []
        for index, row in zip(indices, softmax(self.logits[indices]), strict=True):
            found, truth, path = row.argmax(), self.class_names[self.labels[index]], self.paths[index]
            said = f"is {truth}, found {self.class_names[found]} ({100 * row[found]:.0f} %)"
            number = self.numbers[index] if self.source else 0
            items.append(Thumbnail([read_or_grey(self.source, number)], said, path))
        return section(
            "Worst pictures",
            pictures(items) if items else note("It made no mistake."),
            note="The most confident mistakes.",
        )

    def mistakes(self) -> np.ndarray:
        """Indices of the wrongly classified pictures, the most confident mistake first."""
        margin = self.logits.max(axis=1) - self.logits[np.arange(len(self.labels)), self.labels]
        wrong = np.flatnonzero(self.logits.argmax(axis=1) != self.labels)
        return wrong[np.argsort(-margin[wrong], kind="stable")]


class Recorder:
    """A metric of classification that keeps all logits."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)
        self.logits: list[np.ndarray] = []
        self.labels: list[int] = []
        self.indices: list[int] = []

    def update(self, predictions: Sequence[np.ndarray], targets: Sequence[int], indices: Sequence[int]) -> None:
        self.logits += predictions
        self.labels += targets
        self.indices += indices

    def merge(self, others: Sequence["Recorder"]) -> None:
        for other in others:
            self.update(other.logits, other.labels, other.indices)

    def compute(self) -> Metrics:
        return measure(*self._arrays(), self.class_names)

    def result(self, source: Source, *, broken: Sequence[int]) -> Result:
        logits, labels = self._arrays()
        return Result(
            logits=logits,
            labels=labels,
            paths=tuple(source.name(index) for index in self.indices),
            class_names=self.class_names,
            broken=tuple(source.name(index) for index in broken),
            source=source,
            numbers=tuple(self.indices),
        )

    def save(self, folder: Path, source: Source, *, broken: Sequence[int]) -> Result:
        result = self.result(source, broken=broken)
        save_logits(folder / LOGITS, result)
        return result

    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        logits = np.stack(self.logits) if self.logits else np.empty((0, len(self.class_names)), dtype=np.float32)
        return logits, np.array(self.labels, dtype=np.int64)


def save_logits(path: str | Path, result: Result) -> None:
    """Write a result to FILE.npz, atomically.

    Raises: DataError when the file cannot be written or is not called .npz.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise DataError(f"{path}: a logits file is numpy's .npz; call it {path.with_suffix('.npz').name}.")
    with writing(path) as temporary:
        np.savez(
            temporary,
            logits=result.logits,
            labels=result.labels,
            paths=np.array(result.paths, dtype=np.str_),
            class_names=np.array(result.class_names, dtype=np.str_),
            broken=np.array(result.broken, dtype=np.str_),
        )


def load_logits(path: str | Path) -> Result:
    """Read a logits file.

    Raises: DataError when it is missing, damaged, or holds other arrays.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist. `hybridvit eval CHECKPOINT --data DIR --logits FILE.npz` writes one.")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a logits file (.npz) or is damaged: {error}") from error
    missing = [name for name in ARRAYS if name not in arrays]
    if missing:
        raise DataError(f"{path} has no {', '.join(missing)}; it holds {', '.join(arrays) or 'nothing'}.")
    return Result(
        logits=arrays["logits"],
        labels=arrays["labels"],
        paths=tuple(arrays["paths"].tolist()),
        class_names=tuple(arrays["class_names"].tolist()),
        broken=tuple(arrays["broken"].tolist()) if "broken" in arrays else (),
    )
