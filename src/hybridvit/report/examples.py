"""Some pictures with what is true and what a model says of them, as its task draws both."""

from collections.abc import Sequence

import torch
from markupsafe import Markup
from torch import nn

from hybridvit.config import Preprocess
from hybridvit.data.decode import decode
from hybridvit.data.source import Source
from hybridvit.errors import DataError
from hybridvit.evaluation.logits import Result as Answers
from hybridvit.evaluation.metric import Result
from hybridvit.render.page import Thumbnail, pictures, section
from hybridvit.runtime import in_eval_mode
from hybridvit.tasks.task import Task

COUNT, SIDE = 12, 200


@torch.inference_mode()
def examples(
    model: nn.Module, task: Task, source: Source, preprocess: Preprocess, *, numbers: Sequence[int], title: str
) -> Markup:
    """A section of a page, nothing without numbers. Pictures that cannot be read are left out."""
    parameter, transform, items = next(model.parameters()), task.eval_transform(preprocess), []
    with in_eval_mode(model):
        for number in numbers:
            name = source.name(number)
            try:
                picture = decode(source.read(number), name=name, channels=preprocess.in_chans)
            except (DataError, OSError):
                continue
            image_CHW, frame = transform(picture)
            outputs = model(image_CHW[None].to(parameter.device, parameter.dtype))
            said = task.predictions(outputs, [frame])[0]
            drawn = [task.draw(picture, what, source.class_names) for what in (source.target(number), said)]
            items.append(Thumbnail(drawn, name))
    if not items:
        return Markup()
    return section(title, pictures(items, side=SIDE), note="Above what is true, below what the model says.")


def telling(result: Result, source: Source, *, count: int = COUNT) -> tuple[str, list[int]]:
    """Words for, and numbers of, the pictures to show: the worst where the result names them, else evenly chosen ones.

    None for a result that shows its mistakes itself.
    """
    if isinstance(result, Answers):
        return "", []
    worst = getattr(result, "worst", None)
    if worst:
        return "Worst pictures", [number for number, _ in worst[:count]]
    count = min(count, len(source))
    return "Some pictures", [len(source) * k // count for k in range(count)]
