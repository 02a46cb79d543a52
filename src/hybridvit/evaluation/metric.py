"""What an evaluation needs of a task: a metric that is streamed, and the result that it yields."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from hybridvit.data.source import Source, Target

Prediction = Any
"""What the model says of one picture, in the picture's own pixels, on the CPU."""


class Result(Protocol):
    """What an evaluation says: a few figures for logs, and everything for those who look."""

    @property
    def figures(self) -> Mapping[str, float | None]:
        """By name, in the order of their weight; written to metrics.jsonl under these names."""

    def __str__(self) -> str:
        """A few lines."""

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""

    def to_frame(self) -> Any:
        """A pandas.DataFrame with a row per class. Raises: ConfigError without pandas."""

    def _repr_html_(self) -> str: ...


class Metric(Protocol):
    """Streamed: what is kept does not grow with the number of pictures, or only with what is in them (boxes), unless the
    predictions themselves are asked for."""

    def update(self, predictions: Sequence[Prediction], targets: Sequence[Target], indices: Sequence[int]) -> None:
        """Count pictures, each once. `indices` are their numbers in the source."""

    def merge(self, others: Sequence[Any]) -> None:
        """Add what the metrics of other ranks counted. They are pickled on their way."""

    def compute(self) -> Result:
        """Raises: DataError when nothing was counted, or a prediction is not finite; on every rank alike."""

    def save(self, folder: Path, source: Source, *, broken: Sequence[int]) -> Result | None:
        """Write the predictions that were asked for into a run's folder, and give all that there is to show of them.

        None where none were asked for. Raises: DataError.
        """
