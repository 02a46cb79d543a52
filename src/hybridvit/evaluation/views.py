"""Several views of a picture, several models and several weights, averaged.

Averaged answers are probabilities: their logarithm takes the place of the logits, so that all figures follow from it.
"""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import CenterCrop, Compose, FiveCrop

from hybridvit.config import Preprocess
from hybridvit.data.transforms import Transform, eval_transform
from hybridvit.errors import CheckpointError, ConfigError, DataError
from hybridvit.evaluation.logits import Result


def view_transform(preprocess: Preprocess, *, crops: int = 1, flip: bool = False) -> Transform:
    """Picture -> views (V, C, H, W), normalised: the centre, with five crops the corners too, each also mirrored.

    Raises: ConfigError when crops is neither 1 nor 5, or the preprocessing leaves no room around its crop.
    """
    whole: Any = eval_transform(preprocess)
    steps = list(whole.transforms)
    if crops == 1:
        return _Views(Compose(steps), None, Compose([]), flip)
    at = next((k for k, step in enumerate(steps) if isinstance(step, CenterCrop)), None)
    if crops != 5:
        raise ConfigError(f"crops must be 1 or 5, found {crops}.")
    if at is None or preprocess.crop_pct == 1:
        raise ConfigError("Five crops need room around the centre; this model's crop_pct is 1. Use one crop.")
    return _Views(Compose(steps[:at]), FiveCrop(preprocess.image_size), Compose(steps[at + 1 :]), flip)


class _Views:
    """A class, so that it can be sent to worker processes."""

    def __init__(
        self,
        before: Callable[[Image.Image], Any],
        cut: Callable[[Any], Sequence[Any]] | None,
        after: Callable[[Any], torch.Tensor],
        flip: bool,
    ) -> None:
        self.before, self.cut, self.after, self.flip = before, cut, after, flip

    def __call__(self, picture: Image.Image) -> torch.Tensor:
        prepared = self.before(picture)
        views = [self.after(view) for view in (self.cut(prepared) if self.cut else [prepared])]
        stacked = torch.stack(views)
        return torch.cat([stacked, stacked.flip(-1)]) if self.flip else stacked


def mean_answer(logits: torch.Tensor, *, dim: int) -> torch.Tensor:
    """The logarithm of the mean probability over an axis; the classes are the last one."""
    return logits.log_softmax(-1).logsumexp(dim) - math.log(logits.shape[dim])


def mean_logits(outputs: torch.Tensor, frames: Sequence[Any]) -> list[np.ndarray]:
    """Logits picture by picture; of several views of a picture, which come in a row, the mean answer.

    Shape: outputs (B V, K), B frames -> B arrays (K,), float32.
    """
    logits_BVK = outputs.float().cpu().unflatten(0, (len(frames), -1))
    logits_BK = mean_answer(logits_BVK, dim=1) if logits_BVK.shape[1] > 1 else logits_BVK[:, 0]
    return list(logits_BK.numpy())


def ensemble(results: Sequence[Result], names: Sequence[str]) -> Result:
    """Several models' answers on the same pictures, averaged; a single one's as they are. A picture that one could not
    read is left out.

    Raises: DataError when pictures, labels or classes differ.
    """
    first = results[0]
    if len(results) == 1:
        return first
    for result, name in zip(results, names, strict=True):
        if result.class_names != first.class_names:
            raise DataError(f"{name} has other classes than {names[0]}, or in another order: they cannot be averaged.")
        if result.paths != first.paths or not np.array_equal(result.labels, first.labels):
            raise DataError(f"{name} is about other pictures than {names[0]}: they cannot be averaged.")
    stacked = torch.from_numpy(np.stack([result.logits for result in results]))
    return Result(
        logits=mean_answer(stacked.double(), dim=0).float().numpy(),
        labels=first.labels,
        paths=first.paths,
        class_names=first.class_names,
        broken=first.broken,
        source=first.source,
        numbers=first.numbers,
    )


def averaged(models: Sequence[Any], names: Sequence[str], average: str | None) -> tuple[Sequence[Any], Sequence[str]]:
    """With "weights" the one mean model and its name; otherwise the models, whose answers `ensemble` takes.

    Raises: ConfigError where it does not say what is to be averaged, CheckpointError as average_weights.
    """
    if (len(models) > 1) != (average is not None):
        raise ConfigError("--average weights, or --average answers, goes with several checkpoints, and they with it.")
    if average != "weights":
        return models, names
    return [average_weights(models, names)], [f"the mean of {', '.join(names)}"]


def average_weights(models: Sequence[nn.Module], names: Sequence[str]) -> nn.Module:
    """A model with the mean of the models' weights and BatchNorm statistics (Wortsman et al., arXiv 2203.05482).

    It helps where the models come from one run, or were fine-tuned from the same weights; others have no common mean.

    Raises: CheckpointError when architecture, sizes or classes differ.
    """
    states = [model.state_dict() for model in models]
    if not all(any(tensor.numel() for tensor in state.values()) for state in states):
        raise CheckpointError("An exported file has no weights to average: average answers, or take its checkpoint.")
    first: Any = models[0]
    for model, state, name in zip(models, states, names, strict=True):
        other: Any = model
        shapes = [{key: value.shape for key, value in some.items()} for some in (state, states[0])]
        if shapes[0] != shapes[1]:
            raise CheckpointError(
                f"{name} is not the architecture or the size of {names[0]}: no mean of their weights."
            )
        if other.label_names != first.label_names or other.preprocess != first.preprocess:
            raise CheckpointError(f"{name} has other class names or preprocessing than {names[0]}.")
    averaged = copy.deepcopy(models[0])
    averaged.load_state_dict(
        {
            key: torch.stack([state[key].double() for state in states]).mean(0).to(value.dtype)
            if value.is_floating_point()
            else value
            for key, value in states[0].items()
        }
    )
    return averaged
