"""What a task is. Sampler, loop, resume, guard, averages, ranks, states and reports know this file and no task.

A picture's way in training:   source.read(i), source.target(i) -> decode -> train_transform -> collate -> criterion -> losses
A picture's way in evaluation: source.read(i) -> decode -> eval_transform -> collate -> model -> predictions -> metric
and in prediction the same without the metric: predictions -> row (JSON, tables, Parquet) and draw (a picture).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from PIL.Image import Image
from torch import Tensor, nn

from hybridvit.config import Preprocess, Recipe
from hybridvit.data.source import Source

Target = Any
"""What a picture's annotation says, by task: a class number, numbers of several classes, boxes and masks, a mask of classes.
Numbers of classes count from 0. Plain Python, tensors or torchvision's tv_tensors; it travels between processes."""
Frame = Any
"""What eval_transform did to a picture, as far as predictions need it to come back to the picture's own pixels."""
Prediction = Any
"""What the model says of one picture, in the picture's own pixels, on the CPU."""

TrainTransform = Callable[[Image, Target], tuple[Tensor, Target]]
"""Picture and target move together. The tensor is uint8 (C, H, W), normalised later on the device.
Draws come from the global generators, which the loader seeds by the picture's address."""
EvalTransform = Callable[[Image], tuple[Tensor, Frame]]
"""The tensor is normalised float (C, H, W), or (V, C, H, W) for several views."""


class Criterion(Protocol):
    """All that happens to a training batch on the device: normalising, erasing, mixing, the forward pass, the loss."""

    def __call__(self, net: nn.Module, images_BCHW: Tensor, targets: Any) -> Mapping[str, Tensor]:
        """Scalar losses by name; their sum is minimised. Images are uint8. The loop seeds the generators before, and
        enters autocast never: the criterion does, as only it knows what may be lowered."""


class Result(Protocol):
    """What an evaluation says: a few figures for logs, and everything for those who look."""

    figures: Mapping[str, float | None]
    """By name, in the order of their weight; written to metrics.jsonl under these names."""

    def __str__(self) -> str:
        """A few lines."""

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""

    def to_frame(self) -> Any:
        """A pandas.DataFrame with a row per class. Raises: ConfigError without pandas."""

    def _repr_html_(self) -> str: ...


class Metric(Protocol):
    """Streamed: what is kept does not grow with the number of pictures, or only with what is in them (boxes)."""

    def update(self, predictions: Sequence[Prediction], targets: Sequence[Target], indices: Sequence[int]) -> None:
        """Count pictures, each once. `indices` are their numbers in the source."""

    def merge(self, others: Sequence["Metric"]) -> None:
        """Add what other ranks counted. Metrics are pickled on their way."""

    def compute(self) -> Result: ...


class Task(Protocol):
    """One way of learning from pictures. Instances hold no state and travel to worker processes."""

    name: str
    """As recipes (task:) and weights files spell it."""
    primary: str
    """The figure, of Result.figures, by which the best weights are chosen; higher is better."""

    def create_model(self, recipe: Recipe, *, num_classes: int) -> nn.Module:
        """The recipe's model, its weights drawn from torch's generator. Raises: ConfigError."""

    def train_transform(self, recipe: Recipe) -> TrainTransform: ...

    def eval_transform(self, preprocess: Preprocess) -> EvalTransform: ...

    def collate(self, images: Sequence[Tensor], *, empty: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
        """Images of one batch as (B, C, H, W), channels last in memory: stacked, or padded at the right and bottom.

        empty: makes the uint8 tensor to write to (memory that the trainer sees, too). Evaluation passes float images.
        """

    def criterion(
        self, recipe: Recipe, *, num_classes: int, device: torch.device, device_batch: int, steps: int
    ) -> Criterion:
        """steps: optimizer steps of the run, for what depends on its length."""

    def predictions(self, outputs: Any, frames: Sequence[Frame]) -> list[Prediction]:
        """From what the model, in eval mode, or an exported file returned for a batch."""

    def metric(self, source: Source) -> Metric:
        """Fresh, for the pictures of this source (its class_names, its targets)."""

    def row(self, prediction: Prediction, class_names: Sequence[str], *, top_k: int) -> dict[str, Any]:
        """What is said of one picture, for JSON, tables and Parquet."""

    def draw(self, picture: Image, said: Prediction | Target, class_names: Sequence[str]) -> Image:
        """The picture with a prediction, or a target, drawn on it, legible on small and large pictures."""
