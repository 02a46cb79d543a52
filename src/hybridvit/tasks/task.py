"""What a task is. Sampler, loop, resume, guard, averages, ranks, states and reports know this file and no task.

A picture's way in training:   source.read(i), source.target(i) -> decode -> train_transform -> collate -> criterion -> losses
A picture's way in evaluation: source.read(i) -> decode -> eval_transform -> collate -> model -> predictions -> metric
and in prediction the same without the metric: predictions -> row (JSON, tables, Parquet) and draw (a picture).

A task is a file here with its TASK, its recipe in a file of the same name in hybridvit.config, and that recipe's row in
config/loading.py. The words of the data's way stand in data/loader.py, those of the evaluation's in evaluation/metric.py.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL.Image import Image
from torch import Tensor, nn

from hybridvit.config import Preprocess, Recipe
from hybridvit.data.loader import Collate as Collate
from hybridvit.data.loader import Empty, EvalTransform, Frame, TrainTransform
from hybridvit.data.source import Source, Splits, Target
from hybridvit.evaluation.metric import Metric, Prediction
from hybridvit.evaluation.metric import Result as Result


class Criterion(Protocol):
    """All that happens to a training batch on the device: normalising, erasing, mixing, the forward pass, the loss."""

    def __call__(self, net: nn.Module, images_BCHW: Tensor, targets: Sequence[Target]) -> Mapping[str, Tensor]:
        """Scalar losses by name, the same names at every step; their sum is minimised.

        Images are uint8 and on the device, targets as train_transform left them. The loop has seeded the generators. It
        never enters autocast: the criterion does, as only it knows what may be lowered.
        """


class Task(Protocol):
    """One way of learning from pictures. Instances hold no state and travel to worker processes."""

    name: str
    """As recipes (task:) and weights files spell it."""
    primary: str
    """The figure, of Result.figures, by which the best weights are chosen: in percent, higher is better."""
    primary_name: str
    """The same in words, for people: top-1."""
    row_fields: Mapping[str, Any]
    """The fields of a row's predictions: name -> str, float, int, a list of one of them, or such a mapping again."""

    def open_splits(
        self, data: Any, *, root: Path | None = None, columns: Sequence[str] = (), val_split: float = 0.0
    ) -> Splits:
        """What --data names, with this task's targets, to train on. Raises: DataError."""

    def open_test(
        self, data: Any, *, root: Path | None = None, columns: Sequence[str] = (), val_split: float = 0.0
    ) -> tuple[str, Source]:
        """The part to be evaluated on, with its name. Raises: DataError."""

    def create_model(self, recipe: Recipe, *, num_classes: int) -> nn.Module:
        """The recipe's model, its weights drawn from torch's generator. Raises: ConfigError."""

    def train_transform(self, recipe: Recipe) -> TrainTransform:
        """Raises: ConfigError."""

    def eval_transform(self, preprocess: Preprocess) -> EvalTransform: ...

    def collate(self, images: Sequence[Tensor], *, empty: Empty) -> Tensor:
        """Images of one batch as (B, C, H, W), channels last in memory: stacked, or padded at the right and bottom.

        empty: makes the tensor to write to, in memory that the trainer sees, too.
        """

    def criterion(
        self, recipe: Recipe, *, num_classes: int, device: torch.device, device_batch: int, steps: int
    ) -> Criterion:
        """steps: optimizer steps of the run, for what depends on its length. Raises: ConfigError."""

    def predictions(self, outputs: Any, frames: Sequence[Frame]) -> Sequence[Prediction]:
        """From what the model, in eval mode, or an exported file returned for a batch."""

    def metric(self, source: Source, *, keep: bool = False) -> Metric:
        """Fresh, for the pictures of this source (its class_names, its targets). keep: predictions, too, for save()."""

    def evaluate(
        self,
        model: Any,
        source: Source,
        *,
        names: tuple[str, str],
        crops: int = 1,
        flip: bool = False,
        batch_size: int = 64,
        workers: int = 0,
        on_batch: Callable[[int, int], None] = lambda done, total: None,
    ) -> tuple[Result, Sequence[str]]:
        """What a model from a file says about pictures that it was not trained with, and which of these could not be read.

        names: of the model, of the data. crops, flip: views of a picture to be averaged.

        Raises: DataError when the classes are not the model's, ConfigError for views where answers cannot be averaged.
        """

    def row(self, prediction: Prediction, class_names: Sequence[str], *, top_k: int) -> dict[str, Any]:
        """What is said of one picture, for JSON, tables and Parquet."""

    def draw(self, picture: Image, said: Prediction | Target, class_names: Sequence[str]) -> Image:
        """The picture with a prediction, or a target, drawn on it, legible on small and large pictures."""
