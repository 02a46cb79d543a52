"""A class for every pixel."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn
from torchvision.tv_tensors import Mask

from hybridvit.config import Preprocess, Recipe
from hybridvit.config.segmentation import SegmentationRecipe
from hybridvit.data.loader import normalize, stack
from hybridvit.data.mask_opening import open_mask_splits, open_mask_test
from hybridvit.data.mask_transforms import EvalTransform, Placed, TrainTransform
from hybridvit.data.masks import IGNORE, ignore_value
from hybridvit.data.source import Source
from hybridvit.errors import ConfigError
from hybridvit.evaluation.metric import Result
from hybridvit.evaluation.segmentation import Confusion
from hybridvit.models.heads import assembly
from hybridvit.models.heads.segmenter import AUXILIARY, OUT, classes_at
from hybridvit.render.masks import overlay, runs
from hybridvit.runtime import autocast, weights_dtype
from hybridvit.tasks.evaluating import evaluate_model
from hybridvit.tasks.segmentation_loss import segmentation_loss

# B batch, C channels, K classes, H rows, W columns


class Segmentation:
    """Targets and predictions are masks of numbers of classes (H, W), in the picture's own pixels."""

    name = "segmentation"
    primary = "miou"
    primary_name = "mIoU"
    row_fields: Mapping[str, Any] = {"class": str, "share": float, "rle": {"size": [int], "counts": [int]}}
    open_splits = staticmethod(open_mask_splits)
    open_test = staticmethod(open_mask_test)
    collate = staticmethod(stack)

    def create_model(self, recipe: Recipe, *, num_classes: int) -> nn.Module:
        section, found = recipe.model, assembly.split(recipe.model.name)
        if found is None or assembly.HEADS[found[0]].task != self.name:
            heads = ", ".join(
                f"{name}_{section.name}" for name in assembly.HEADS if assembly.HEADS[name].task == self.name
            )
            raise ConfigError(f"{section.name} is no segmenter. Put a head before a backbone's name: {heads}.")
        options: dict[str, Any] = {} if section.drop_rate is None else {"head_drop_rate": section.drop_rate}
        return assembly.create(
            section.name,
            num_classes=num_classes,
            in_chans=recipe.preprocess.in_chans,
            drop_path_rate=section.drop_path_rate,
            **options,
            **section.args,
        )

    def train_transform(self, recipe: Recipe) -> TrainTransform:
        assert isinstance(recipe, SegmentationRecipe)
        return TrainTransform(recipe.preprocess, recipe.augment)

    def eval_transform(self, preprocess: Preprocess) -> EvalTransform:
        return EvalTransform(preprocess)

    def criterion(
        self, recipe: Recipe, *, num_classes: int, device: torch.device, device_batch: int, steps: int
    ) -> "PixelLoss":
        assert isinstance(recipe, SegmentationRecipe)
        return PixelLoss(recipe, num_classes=num_classes, device=device)

    def predictions(self, outputs: Any, frames: Sequence[Placed]) -> list[Mask]:
        """An answer with logits that are not finite has no class anywhere."""
        logits_BKHW = torch.as_tensor(outputs)
        answers = []
        for logits_KHW, (size, (rows, columns)) in zip(logits_BKHW, frames, strict=True):
            mask_HW = classes_at(logits_KHW[:, :rows, :columns], size)
            mask_HW = mask_HW.masked_fill(mask_HW < 0, ignore_value(len(logits_KHW)))
            answers.append(Mask(mask_HW.cpu().to(torch.uint8 if len(logits_KHW) <= IGNORE else torch.int32)))
        return answers

    def metric(self, source: Source, *, keep: bool = False) -> Confusion:
        return Confusion(source.class_names, keep=keep)

    def evaluate(
        self, model: Any, source: Source, *, names: tuple[str, str], **how: Any
    ) -> tuple[Result, Sequence[str]]:
        return evaluate_model(self, model, source, names=names, **how)

    def row(self, prediction: Mask, class_names: Sequence[str], *, top_k: int) -> dict[str, Any]:
        """The classes of most pixels with their share and COCO's runs."""
        mask_HW = np.asarray(prediction)
        counts = np.bincount(mask_HW.reshape(-1), minlength=len(class_names))[: len(class_names)]
        most = [int(k) for k in np.argsort(-counts, kind="stable")[:top_k] if counts[k]]
        return {
            "predictions": [
                {
                    "class": class_names[k],
                    "share": float(counts[k] / mask_HW.size),
                    "rle": {"size": list(mask_HW.shape), "counts": runs(mask_HW == k)},
                }
                for k in most
            ]
        }

    def draw(self, picture: Image, said: Mask, class_names: Sequence[str]) -> Image:
        return overlay(picture, np.asarray(said), class_names)


class PixelLoss:
    """The recipe's losses of the model's logits, and of the auxiliary head's where there is one."""

    def __init__(self, recipe: SegmentationRecipe, *, num_classes: int, device: torch.device) -> None:
        weights = recipe.loss.class_weights
        if weights and len(weights) != num_classes:
            raise ConfigError(f"loss.class_weights has {len(weights)} values, the data set {num_classes} classes.")
        self.recipe, self.ignore = recipe, ignore_value(num_classes)
        self.dtype = weights_dtype(recipe.precision)
        self.weights_K = torch.tensor(weights, dtype=self.dtype, device=device) if weights else None

    def __call__(self, net: nn.Module, images_BCHW: Tensor, targets: Sequence[Mask]) -> Mapping[str, Tensor]:
        recipe, device = self.recipe, images_BCHW.device
        x_BCHW = normalize(images_BCHW, recipe.preprocess, self.dtype)
        labels_BHW = (
            torch.stack([target.as_subclass(Tensor) for target in targets]).to(device, non_blocking=True).long()
        )
        with autocast(device, recipe.precision):
            outputs = net(x_BCHW)
        outputs = outputs if isinstance(outputs, dict) else {OUT: outputs}
        weight = {OUT: 1.0, AUXILIARY: recipe.loss.auxiliary}
        return {
            name: weight[name]
            * segmentation_loss(
                logits_BKHW.to(self.dtype), labels_BHW, recipe.loss, weights_K=self.weights_K, ignore=self.ignore
            )
            for name, logits_BKHW in outputs.items()
        }


TASK = Segmentation()
