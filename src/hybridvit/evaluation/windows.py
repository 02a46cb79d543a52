"""A picture of any size through a segmenter: whole or in windows, at several scales, mirrored too; in bounded memory.

Answers are averaged as probabilities. Of a picture in windows only as many rows are held as a window has.
Tensors: K classes, H rows, W columns.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.tv_tensors import Mask

from hybridvit.config import Preprocess
from hybridvit.data.decode import decode
from hybridvit.data.mask_transforms import normalised
from hybridvit.data.masks import IGNORE, ignore_value
from hybridvit.data.source import Source
from hybridvit.errors import ConfigError, DataError
from hybridvit.evaluation.segmentation import Confusion, SegmentationResult
from hybridvit.models.heads.segmenter import classes_at, resize

OVERLAP = 1 / 3
"""Of neighbouring windows, as mmsegmentation's stride of 341 in 512."""


@torch.inference_mode()
def segment(
    model: nn.Module,
    picture: Image.Image,
    *,
    preprocess: Preprocess | None = None,
    windows: bool = False,
    overlap: float = OVERLAP,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> Mask:
    """The class of every pixel of an upright RGB (or grey) picture. Shape: (H, W), uint8; int32 with more than 255 classes.

    Args:
        preprocess: by default, the model's own.
        windows: pass windows of preprocess.image_size, in the picture's own pixels, over it; otherwise the whole picture is
            resized to that size, keeping its ratio.
        overlap: share of a window that its neighbour sees, too.
        scales: sizes at which the whole, or each window, is looked at.
        flip: look at each mirrored, too.

    Raises: ConfigError for an argument out of its range, DataError where answers are not finite.
    """
    if not 0 <= overlap < 1:
        raise ConfigError(f"overlap is a share below 1, found {overlap}.")
    if not scales or min(scales) <= 0:
        raise ConfigError(f"scales are positive numbers, at least one, found {list(scales)}.")
    preprocess = preprocess or _own(model)
    look = _Look(model, preprocess, scales=scales, flip=flip)
    was_training = model.training
    model.eval()
    try:
        if windows:
            return _as_mask(torch.cat(list(_bands(look, picture, preprocess.image_size, overlap))), look.num_classes)
        factor = min(
            side / own for side, own in zip(preprocess.image_size, (picture.height, picture.width), strict=True)
        )
        rows, columns = (max(round(side * factor), 1) for side in (picture.height, picture.width))
        probabilities_KHW = look(picture, (rows, columns))
        return _as_mask(classes_at(probabilities_KHW, (picture.height, picture.width)).cpu(), look.num_classes)
    finally:
        model.train(was_training)


def evaluate_pictures(
    model: nn.Module,
    source: Source,
    *,
    max_pixels: int | None = None,
    on_picture: Callable[[int], None] = lambda _: None,
    **how: Any,
) -> SegmentationResult:
    """Evaluate `segment` on every picture of a source, one at a time, at its own size. how: arguments of `segment`.

    Raises: DataError for a picture or mask that cannot be read.
    """
    metric = Confusion(source.class_names)
    channels = (how.get("preprocess") or _own(model)).in_chans
    limit = {} if max_pixels is None else {"max_pixels": max_pixels}
    for index in range(len(source)):
        picture = decode(source.read(index), name=source.name(index), channels=channels, **limit)
        metric.update([segment(model, picture, **how)], [source.target(index)], [index])
        on_picture(index + 1)
    return metric.compute()


def _own(model: Any) -> Preprocess:
    """What a model carries from its file, or was built for."""
    return getattr(model, "preprocess", None) or Preprocess.from_pretrained_cfg(model.pretrained_cfg)


class _Look:
    """The mean probabilities of several views of a picture, at the size of the first. Shape: picture -> (K, *size)."""

    def __init__(self, model: nn.Module, preprocess: Preprocess, *, scales: Sequence[float], flip: bool) -> None:
        self.model, self.preprocess, self.scales, self.flip = model, preprocess, scales, flip
        self.num_classes: int = model.num_classes  # type: ignore[assignment]
        self.parameter = next(model.parameters())

    def __call__(self, picture: Image.Image, size: tuple[int, int]) -> Tensor:
        total_KHW = torch.zeros(())
        for scale in self.scales:
            at = tuple(max(round(side * scale), 1) for side in size)
            x_BCHW = normalised(picture, at, self.preprocess)[None].to(self.parameter.device, self.parameter.dtype)  # type: ignore[arg-type]
            for flipped in (False, True)[: 1 + self.flip]:
                logits_BKHW = self.model(x_BCHW.flip(3) if flipped else x_BCHW)
                logits_BKHW = resize(logits_BKHW.flip(3) if flipped else logits_BKHW, size).float()
                total_KHW = total_KHW.to(logits_BKHW.device) + logits_BKHW.softmax(dim=1)[0]
        return total_KHW / (len(self.scales) * (1 + self.flip))


def _bands(look: _Look, picture: Image.Image, window: tuple[int, int], overlap: float) -> Iterator[Tensor]:
    """The classes of the picture, some finished rows at a time, from the top."""
    rows, columns = min(window[0], picture.height), min(window[1], picture.width)
    tops, lefts = _starts(picture.height, rows, overlap), _starts(picture.width, columns, overlap)
    device = look.parameter.device
    sums_KRW = torch.zeros(look.num_classes, rows, picture.width, device=device)
    for top, next_top in zip(tops, [*tops[1:], picture.height], strict=True):
        for left in lefts:
            cut = picture.crop((left, top, left + columns, top + rows))
            sums_KRW[:, :, left : left + columns] += look(cut, (rows, columns))
        finished = next_top - top
        # A sum's largest is its mean's largest: every class of a pixel was added up as often.
        yield _classes(sums_KRW[:, :finished])
        for row_RW in sums_KRW:  # class by class: a second copy of all would be the largest thing here
            row_RW[: rows - finished] = row_RW[finished:].clone()
            row_RW[rows - finished :] = 0


def _starts(length: int, window: int, overlap: float) -> list[int]:
    """Where windows begin, evenly spread, from the first pixel to where the last one ends with the picture."""
    if length <= window:
        return [0]
    count = 1 + -(-(length - window) // max(int(window * (1 - overlap)), 1))
    return [round(i * (length - window) / (count - 1)) for i in range(count)]


def _classes(sums_KRW: Tensor) -> Tensor:
    return classes_at(sums_KRW, (sums_KRW.shape[1], sums_KRW.shape[2])).cpu()


def _as_mask(classes_HW: Tensor, num_classes: int) -> Mask:
    if int(classes_HW.min()) < 0:
        raise DataError("The model's answers are not finite: its weights are damaged, or half precision overflowed.")
    return Mask(classes_HW.to(torch.uint8 if ignore_value(num_classes) == IGNORE else torch.int32))
