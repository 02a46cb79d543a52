"""Logits on disk: numpy's .npz, which any tool with numpy opens and which never runs code.

Arrays: logits (N, K) float32, labels (N,) int64, paths (N,), class_names (K,) and broken (pictures that could not be
read, may be missing) as Unicode.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from hybridvit.data.source import Source
from hybridvit.errors import DataError
from hybridvit.evaluate.calibration import calibration_error
from hybridvit.evaluate.metrics import Metrics, measure
from hybridvit.files import replacing

ARRAYS = ("logits", "labels", "paths", "class_names")
LOGITS = "logits.npz"
"""In a run's folder: the answers of its last evaluation."""


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

    @cached_property
    def metrics(self) -> Metrics:
        """Raises: DataError as evaluate.metrics.measure does."""
        return measure(self.logits, self.labels, self.class_names)

    @cached_property
    def calibration_error(self) -> float:
        """In percent; evaluate.calibration says how."""
        return calibration_error(self.logits, self.labels)

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
        )

    def save(self, folder: Path, source: Source, *, broken: Sequence[int]) -> None:
        save_logits(folder / LOGITS, self.result(source, broken=broken))

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
    try:
        with replacing(path) as temporary:
            np.savez(
                temporary,
                logits=result.logits,
                labels=result.labels,
                paths=np.array(result.paths, dtype=np.str_),
                class_names=np.array(result.class_names, dtype=np.str_),
                broken=np.array(result.broken, dtype=np.str_),
            )
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}") from error


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
