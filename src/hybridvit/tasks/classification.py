"""One class per picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn

from hybridvit.config import ClassificationRecipe, Preprocess, Recipe
from hybridvit.data.loader import EvalTransform, TrainTransform, normalize, stack
from hybridvit.data.opening import open_splits, open_test
from hybridvit.data.source import Source
from hybridvit.data.transforms import KeepingTarget, WithoutFrame, eval_transform, train_transform
from hybridvit.evaluation.answers import answers
from hybridvit.evaluation.logits import Recorder, Result
from hybridvit.evaluation.metric import Metric
from hybridvit.evaluation.metrics import Accuracy, ranked, softmax
from hybridvit.evaluation.views import mean_logits
from hybridvit.models import catalog
from hybridvit.runtime import autocast, weights_dtype
from hybridvit.tasks.caption import caption
from hybridvit.tasks.mixing import Mixer, loss_of
from hybridvit.tasks.teacher import Teacher

# B batch, C channels, H rows, W columns, K classes


class Classification:
    """Targets are numbers of classes, predictions are logits (K,)."""

    name = "classification"
    primary = "top1"
    primary_name = "top-1"
    row_fields: Mapping[str, Any] = {"class": str, "probability": float}
    open_splits = staticmethod(open_splits)
    open_test = staticmethod(open_test)
    collate = staticmethod(stack)
    predictions = staticmethod(mean_logits)

    def create_model(self, recipe: Recipe, *, num_classes: int) -> nn.Module:
        return create_classifier(recipe, num_classes=num_classes)

    def train_transform(self, recipe: Recipe) -> TrainTransform:
        assert isinstance(recipe, ClassificationRecipe)
        return KeepingTarget(train_transform(recipe.preprocess, recipe.augment))

    def eval_transform(self, preprocess: Preprocess) -> EvalTransform:
        return WithoutFrame(eval_transform(preprocess))

    def criterion(
        self, recipe: Recipe, *, num_classes: int, device: torch.device, device_batch: int, steps: int
    ) -> "CrossEntropy":
        assert isinstance(recipe, ClassificationRecipe)
        return CrossEntropy(recipe, num_classes=num_classes, device=device, device_batch=device_batch)

    def metric(self, source: Source, *, keep: bool = False) -> Metric:
        return Recorder(source.class_names) if keep else Accuracy(source.class_names)

    def evaluate(
        self, model: Any, source: Source, *, names: tuple[str, str], **how: Any
    ) -> tuple[Result, Sequence[str]]:
        """Classes are matched by name, ImageNet's also by synset."""
        result = answers(model, source, names=names, **how)[1]
        return result, result.broken

    def row(self, prediction: np.ndarray, class_names: Sequence[str], *, top_k: int) -> dict[str, Any]:
        probabilities = softmax(prediction[None])[0]
        return {"predictions": ranked(probabilities, class_names, top_k)}

    def draw(self, picture: Image, said: Any, class_names: Sequence[str]) -> Image:
        if np.ndim(said) == 0:
            return caption(picture, class_names[int(said)])
        best = self.row(said, class_names, top_k=1)["predictions"][0]
        return caption(picture, f"{best['class']} {best['probability']:.0%}")


class CrossEntropy:
    """Erase and mix, compare with the labels, and where there is a teacher with its answers, too."""

    def __init__(
        self, recipe: ClassificationRecipe, *, num_classes: int, device: torch.device, device_batch: int
    ) -> None:
        self.recipe = recipe
        self.mixer = Mixer(
            recipe.mix, recipe.augment, num_classes=num_classes, device_batch=device_batch, device=device
        )
        self.teacher = None
        if recipe.distill.teacher:
            self.teacher = Teacher(recipe.distill, preprocess=recipe.preprocess, num_classes=num_classes, device=device)

    def __call__(self, net: nn.Module, images_BCHW: Tensor, targets: Sequence[int]) -> Mapping[str, Tensor]:
        recipe, device = self.recipe, images_BCHW.device
        x_BCHW = normalize(images_BCHW, recipe.preprocess, weights_dtype(recipe.precision))
        x_BCHW, labels = self.mixer(x_BCHW, torch.tensor(targets, device=device))
        with autocast(device, recipe.precision):
            logits_BK = net(x_BCHW)
        loss = loss_of(logits_BK, labels, smoothing=recipe.mix.smoothing)
        if self.teacher:
            loss = self.teacher.blend(loss, logits_BK, x_BCHW)
        return {"loss": loss}


def create_classifier(recipe: Recipe, *, num_classes: int) -> nn.Module:
    """The catalogue's model as the recipe asks for it. Raises: ConfigError when it does not take one of model.args."""
    section = recipe.model
    options: dict[str, Any] = {} if section.drop_rate is None else {"drop_rate": section.drop_rate}
    return catalog.create(
        section.name,
        num_classes=num_classes,
        in_chans=recipe.preprocess.in_chans,
        img_size=recipe.preprocess.image_size,
        drop_path_rate=section.drop_path_rate,
        **options,
        **section.args,
    )


TASK = Classification()
