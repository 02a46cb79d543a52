"""A model's answers to every picture of a loader, each counted once."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from hybridvit.data.ahead import ahead
from hybridvit.data.loader import EvalBatch, EvalSet
from hybridvit.evaluation.logits import Recorder, Result
from hybridvit.evaluation.metric import Metric, Prediction
from hybridvit.evaluation.views import mean_logits
from hybridvit.runtime import autocast, in_eval_mode


@torch.inference_mode()
def stream(
    model: nn.Module,
    loader: DataLoader[EvalBatch],
    metric: Metric,
    *,
    predictions: Callable[[Any, Sequence[Any]], Sequence[Prediction]],
    precision: str = "float32",
    on_batch: Callable[[int], None] = lambda _: None,
) -> list[int]:
    """Run the model, on its own device and in eval mode, over what data.loader.eval_loader gives, into the metric.

    predictions: from the model's output for a batch and its frames; of V views of a picture there are V rows in a row.
    on_batch: called with the number of pictures done, broken ones included.

    The model's modes are restored. Returns the numbers of the broken pictures, which are in no figure.
    """
    parameter = next(model.parameters())
    done, broken = 0, list[int]()
    with in_eval_mode(model):
        # Decoding goes on beside computing: in workers where there are any, else in a thread.
        for batch in loader if loader.num_workers else ahead(loader):
            if len(batch.images):
                images = batch.images.flatten(0, -4)
                images = images.to(parameter.device, parameter.dtype, memory_format=torch.channels_last)
                with autocast(parameter.device, precision):
                    outputs = model(images)
                metric.update(predictions(outputs, batch.frames), batch.targets, batch.indices.tolist())
            broken += batch.broken.tolist()
            done += len(batch.indices) + len(batch.broken)
            on_batch(done)
    return broken


def evaluate(
    model: nn.Module,
    loader: DataLoader[EvalBatch],
    *,
    precision: str = "float32",
    on_batch: Callable[[int], None] = lambda _: None,
) -> Result:
    """A classifier's logits for every picture of a loader, all kept. Broken pictures are named in the result."""
    assert isinstance(loader.dataset, EvalSet)
    source, recorder = loader.dataset.source, Recorder(loader.dataset.source.class_names)
    broken = stream(model, loader, recorder, predictions=mean_logits, precision=precision, on_batch=on_batch)
    return recorder.result(source, broken=broken)
