"""A model's logits for every picture of a loader, each counted once."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from hybridvit.data.ahead import ahead
from hybridvit.data.loader import EvalBatch, EvalSet
from hybridvit.evaluate.logits import Result
from hybridvit.evaluate.views import mean_answer
from hybridvit.runtime import autocast


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    loader: DataLoader[EvalBatch],
    *,
    precision: str = "float32",
    on_batch: Callable[[int], None] = lambda _: None,
) -> Result:
    """Run the model, on its own device and in eval mode, over what data.loader.eval_loader gives.

    The model's training mode is restored. Broken pictures are named in the result and in no figure. `on_batch` is called
    with the number of pictures done, broken ones included.
    """
    assert isinstance(loader.dataset, EvalSet)
    source = loader.dataset.source
    parameter = next(model.parameters())
    was_training = model.training
    model.eval()
    logits, labels, indices, broken = [], [], [], []
    try:
        # Decoding goes on beside computing: in workers where there are any, else in a thread.
        for batch in loader if loader.num_workers else ahead(loader):
            if len(batch.images):
                views = batch.images.shape[1:-3].numel()  # 1, or V of evaluate.views
                images = batch.images.flatten(0, -4)
                images = images.to(parameter.device, parameter.dtype, memory_format=torch.channels_last)
                with autocast(parameter.device, precision):
                    answers = model(images).float().cpu()
                logits.append((mean_answer(answers.unflatten(0, (-1, views)), dim=1) if views > 1 else answers).numpy())
                labels.append(batch.labels.numpy())
                indices += batch.indices.tolist()
            broken += batch.broken.tolist()
            on_batch(len(indices) + len(broken))
    finally:
        model.train(was_training)
    return Result(
        logits=np.concatenate(logits) if logits else np.empty((0, len(source.class_names)), dtype=np.float32),
        labels=np.concatenate(labels) if labels else np.empty(0, dtype=np.int64),
        paths=tuple(source.name(index) for index in indices),
        class_names=tuple(source.class_names),
        broken=tuple(source.name(index) for index in broken),
    )
