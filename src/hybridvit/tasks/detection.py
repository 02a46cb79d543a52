"""Boxes, and masks, of every object on a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import clip_boxes_to_image

from hybridvit.config import Preprocess, Recipe
from hybridvit.config.detection import DetectionRecipe
from hybridvit.data.detection.opening import open_box_splits, open_box_test
from hybridvit.data.detection.transforms import Boxes, EvalTransform, Frame, TrainTransform
from hybridvit.data.loader import Empty, normalize
from hybridvit.data.objects import Objects, encode
from hybridvit.data.source import Source
from hybridvit.errors import ConfigError
from hybridvit.evaluation.detection import CocoMetric, Detections
from hybridvit.evaluation.metric import Result
from hybridvit.models.heads import assembly
from hybridvit.runtime import autocast, weights_dtype
from hybridvit.tasks.boxes_drawing import draw_boxes
from hybridvit.tasks.evaluating import evaluate_model

# B batch, N objects, C channels, H rows, W columns

PADDED_TO = 32
"""Batches come in few sizes, and every level of a pyramid divides them."""
DRAWN_FROM = 0.3
"""The score from which a detection is drawn."""
MASKS_AT_ONCE = 32


class Detection:
    """Targets are Objects, predictions Detections, both in the picture's own pixels."""

    name = "detection"
    primary = "ap"
    primary_name = "AP"
    row_fields: Mapping[str, Any] = {
        "class": str,
        "score": float,
        **dict.fromkeys(("left", "top", "right", "bottom"), float),
        "rle": {"size": [int], "counts": str},
    }
    open_splits = staticmethod(open_box_splits)
    open_test = staticmethod(open_box_test)

    def create_model(self, recipe: Recipe, *, num_classes: int) -> nn.Module:
        section, found = recipe.model, assembly.split(recipe.model.name)
        if found is None or assembly.HEADS[found[0]].task != self.name:
            heads = ", ".join(
                f"{name}_{section.name}" for name in assembly.HEADS if assembly.HEADS[name].task == self.name
            )
            raise ConfigError(f"{section.name} is no detector. Put a head before a backbone's name: {heads}.")
        if section.drop_rate is not None:
            raise ConfigError("model.drop_rate: detectors have no dropout.")
        return assembly.create(
            section.name,
            num_classes=num_classes,
            in_chans=recipe.preprocess.in_chans,
            drop_path_rate=section.drop_path_rate,
            **section.args,
        )

    def train_transform(self, recipe: Recipe) -> TrainTransform:
        assert isinstance(recipe, DetectionRecipe)
        return TrainTransform(recipe.preprocess, recipe.augment, masks=_learns_masks(recipe))

    def eval_transform(self, preprocess: Preprocess) -> EvalTransform:
        return EvalTransform(preprocess)

    def collate(self, images: Sequence[Tensor], *, empty: Empty) -> Tensor:
        """Padded with zeros at the right and bottom to multiples of 32."""
        rows, columns = (-(-max(image.shape[side] for image in images) // PADDED_TO) * PADDED_TO for side in (1, 2))
        batch = empty((len(images), rows, columns, images[0].shape[0])).permute(0, 3, 1, 2).zero_()
        for place, image in zip(batch, images, strict=True):
            place[:, : image.shape[1], : image.shape[2]] = image
        return batch

    def criterion(
        self, recipe: Recipe, *, num_classes: int, device: torch.device, device_batch: int, steps: int
    ) -> "DetectorLosses":
        return DetectorLosses(recipe)

    def predictions(self, outputs: Any, frames: Sequence[Frame]) -> list[Detections]:
        return [_in_own_pixels(found, frame) for found, frame in zip(outputs, frames, strict=True)]

    def metric(self, source: Source, *, keep: bool = False) -> CocoMetric:
        return CocoMetric(source.class_names, keep=keep)

    def headline(self, figures: Mapping[str, Any]) -> str:
        masks = f"  mask AP {_figure(figures['mask_ap'])}" if "mask_ap" in figures else ""
        return f"AP {_figure(figures['ap'])}  AP50 {_figure(figures['ap50'])}{masks}"

    def evaluate(
        self, model: Any, source: Source, *, names: tuple[str, str], **how: Any
    ) -> tuple[Result, Sequence[str]]:
        return evaluate_model(self, model, source, names=names, **how)

    def row(self, prediction: Detections, class_names: Sequence[str], *, top_k: int) -> dict[str, Any]:
        """The best `top_k` of a picture; its box in pixels, its mask as COCO's runs."""
        rows = []
        for i in range(min(top_k, len(prediction.scores_N))):
            entry: dict[str, Any] = {
                "class": class_names[int(prediction.labels_N[i])],
                "score": float(prediction.scores_N[i]),
                **dict(zip(("left", "top", "right", "bottom"), prediction.boxes_N4[i].tolist(), strict=True)),
            }
            if prediction.outlines is not None:
                entry["rle"] = prediction.outlines[i]
            rows.append(entry)
        return {"predictions": rows}

    def draw(self, picture: Image, said: Detections | Objects, class_names: Sequence[str]) -> Image:
        if isinstance(said, Objects):
            names = [class_names[int(label)] for label in said.labels_N]
            texts = [f"{name} (crowd)" if crowd else name for name, crowd in zip(names, said.crowd_N, strict=True)]
            return draw_boxes(picture, said.boxes_N4.tolist(), said.labels_N.tolist(), texts, said.outlines)
        shown = int((said.scores_N >= DRAWN_FROM).sum())  # they come best first
        labels = said.labels_N[:shown].tolist()
        texts = [f"{class_names[label]} {score:.0%}" for label, score in zip(labels, said.scores_N, strict=False)]
        outlines = None if said.outlines is None else said.outlines[:shown]
        return draw_boxes(picture, said.boxes_N4[:shown].tolist(), labels, texts, outlines)


class DetectorLosses:
    """The model's own losses, on normalised pictures in which padding is zero, the mean colour."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def __call__(self, net: nn.Module, images_BCHW: Tensor, targets: Sequence[Boxes]) -> Mapping[str, Tensor]:
        recipe, device = self.recipe, images_BCHW.device
        dtype = weights_dtype(recipe.precision)
        x_BCHW = normalize(images_BCHW, recipe.preprocess, dtype)
        sizes = [target["size"] for target in targets]
        for x_CHW, (rows, columns) in zip(x_BCHW, sizes, strict=True):
            x_CHW[:, rows:] = 0
            x_CHW[:, :, columns:] = 0
        moved = [
            {name: each.to(device, non_blocking=True) for name, each in target.items() if name != "size"}
            for target in targets
        ]
        for target in moved:
            target["boxes"] = target["boxes"].to(dtype)
        with autocast(device, recipe.precision):
            losses: Mapping[str, Tensor] = net(x_BCHW, sizes, moved)
        return losses


def _learns_masks(recipe: Recipe) -> bool:
    return recipe.model.name.startswith("mask_rcnn")


def _in_own_pixels(found: Mapping[str, Tensor], frame: Frame) -> Detections:
    """From pixels of the model's input to the picture's own."""
    (rows, columns), resized = frame
    boxes_N4 = clip_boxes_to_image(found["boxes"].cpu().double(), resized)
    boxes_N4 *= torch.tensor([columns / resized[1], rows / resized[0]] * 2, dtype=torch.float64)
    outlines = None
    if "masks" in found:
        outlines = tuple(
            outline
            for i in range(0, len(boxes_N4), MASKS_AT_ONCE)
            for outline in encode(
                _pasted(found["masks"][i : i + MASKS_AT_ONCE].cpu(), boxes_N4[i : i + MASKS_AT_ONCE], frame.size)
            )
        )
    return Detections(
        size=frame.size,
        boxes_N4=boxes_N4.numpy(),
        scores_N=found["scores"].cpu().double().numpy(),
        labels_N=found["labels"].cpu().numpy(),
        outlines=outlines,
    )


def _pasted(masks_N1MM: Tensor, boxes_N4: Tensor, size: tuple[int, int]) -> Tensor:
    """Probabilities over each box as masks of the picture. Shape: (N, H, W), uint8."""
    return (paste_masks_in_image(masks_N1MM.float(), boxes_N4.float(), size)[:, 0] >= 0.5).to(torch.uint8)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


TASK = Detection()
