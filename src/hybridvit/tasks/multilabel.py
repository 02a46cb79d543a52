"""Any number of classes per picture, none among them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn import functional as F

from hybridvit.config import MixSection, Preprocess, Recipe
from hybridvit.config.multilabel import MultilabelRecipe
from hybridvit.data.loader import EvalTransform, TrainTransform, normalize, stack
from hybridvit.data.multilabel import open_multilabel_splits, open_multilabel_test
from hybridvit.data.source import Source
from hybridvit.data.transforms import KeepingTarget, WithoutFrame, eval_transform, train_transform
from hybridvit.evaluation.metric import Result
from hybridvit.evaluation.metrics import ranked
from hybridvit.evaluation.multilabel import MeanAveragePrecision
from hybridvit.evaluation.views import mean_logits
from hybridvit.runtime import autocast, weights_dtype
from hybridvit.tasks.caption import caption
from hybridvit.tasks.classification import create_classifier
from hybridvit.tasks.evaluating import evaluate_model
from hybridvit.tasks.mixing import Mixer

# B batch, C channels, H rows, W columns, K classes


class Multilabel:
    """Targets are the numbers of a picture's classes, predictions logits (K,); a class is found where its logit is above 0."""

    name = "multilabel"
    primary = "map"
    primary_name = "mAP"
    row_fields: Mapping[str, Any] = {"class": str, "probability": float}
    open_splits = staticmethod(open_multilabel_splits)
    open_test = staticmethod(open_multilabel_test)
    collate = staticmethod(stack)
    predictions = staticmethod(mean_logits)

    def create_model(self, recipe: Recipe, *, num_classes: int) -> nn.Module:
        return create_classifier(recipe, num_classes=num_classes)

    def train_transform(self, recipe: Recipe) -> TrainTransform:
        assert isinstance(recipe, MultilabelRecipe)
        return KeepingTarget(train_transform(recipe.preprocess, recipe.augment))

    def eval_transform(self, preprocess: Preprocess) -> EvalTransform:
        return WithoutFrame(eval_transform(preprocess))

    def criterion(
        self, recipe: Recipe, *, num_classes: int, device: torch.device, device_batch: int, steps: int
    ) -> "BinaryCrossEntropy":
        assert isinstance(recipe, MultilabelRecipe)
        return BinaryCrossEntropy(recipe, num_classes=num_classes, device=device, device_batch=device_batch)

    def metric(self, source: Source, *, keep: bool = False) -> MeanAveragePrecision:
        return MeanAveragePrecision(source.class_names)

    def evaluate(
        self, model: Any, source: Source, *, names: tuple[str, str], **how: Any
    ) -> tuple[Result, Sequence[str]]:
        return evaluate_model(self, model, source, names=names, **how)

    def row(self, prediction: np.ndarray, class_names: Sequence[str], *, top_k: int) -> dict[str, Any]:
        return {"predictions": ranked(_probabilities(prediction), class_names, top_k)}

    def draw(self, picture: Image, said: Any, class_names: Sequence[str]) -> Image:
        found = [k for k, x in enumerate(said) if x > 0] if isinstance(said, np.ndarray) else said
        return caption(picture, ", ".join(class_names[k] for k in found) or "no class")


class BinaryCrossEntropy:
    """Every class by itself, at least in float32; the mean over classes and pictures."""

    def __init__(self, recipe: MultilabelRecipe, *, num_classes: int, device: torch.device, device_batch: int) -> None:
        self.recipe, self.num_classes = recipe, num_classes
        self.erase = Mixer(
            MixSection(), recipe.augment, num_classes=num_classes, device_batch=device_batch, device=device
        )

    def __call__(self, net: nn.Module, images_BCHW: Tensor, targets: Sequence[tuple[int, ...]]) -> Mapping[str, Tensor]:
        recipe, device = self.recipe, images_BCHW.device
        has_BK = several_hot(targets, self.num_classes, smoothing=recipe.smoothing)
        has_BK = has_BK.to(device, weights_dtype(recipe.precision))
        x_BCHW, has_BK = self.erase(normalize(images_BCHW, recipe.preprocess, weights_dtype(recipe.precision)), has_BK)
        with autocast(device, recipe.precision):
            logits_BK = net(x_BCHW)
        logits_BK = logits_BK.to(torch.promote_types(logits_BK.dtype, torch.float32))
        return {"loss": F.binary_cross_entropy_with_logits(logits_BK, has_BK.to(logits_BK.dtype))}


def several_hot(targets: Sequence[tuple[int, ...]], num_classes: int, *, smoothing: float = 0.0) -> Tensor:
    """1 where a picture has a class, 0 elsewhere; smoothed as timm's BinaryCrossEntropy. Shape: B targets -> (B, K)."""
    off = smoothing / num_classes
    has_BK = torch.full((len(targets), num_classes), off, dtype=torch.float64)
    for row, target in zip(has_BK, targets, strict=True):
        row[list(target)] = 1 - smoothing + off
    return has_BK


def _probabilities(logits_K: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits_K.astype(np.float64)))


TASK = Multilabel()
