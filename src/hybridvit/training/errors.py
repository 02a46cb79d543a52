"""What can befall a run from outside, said in words that lead on."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hybridvit.errors import TrainingError
from hybridvit.training.trainer import Trainer


@contextmanager
def explained(run: Trainer) -> Iterator[None]:
    """Turn a full device, a dead worker or a lost rank into a TrainingError."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"{run.device} is out of memory at device_batch {run.device_batch}. {_cures(run)}"
        ) from error
    except ValueError as error:
        if "Expected more than 1 value per channel when training" not in str(error):
            raise
        raise TrainingError(
            f"BatchNorm sees one value per channel ({error}), at device_batch {run.device_batch} and preprocess.image_size "
            f"{list(run.recipe.preprocess.image_size)}: it needs more. Use --set device_batch={2 * run.device_batch} or more "
            "(global_batch must be a multiple of it), or larger pictures."
        ) from error
    except RuntimeError as error:
        if "DataLoader worker" in str(error):
            raise TrainingError(
                f"A process that loads pictures died: {error}\nMost often the machine's memory is full: use fewer with "
                f"--set run.workers={max(run.recipe.run.workers // 2, 0)}. {_resume(run)}"
            ) from error
        if "mixed torch.Tensor and DTensor" in str(error):
            raise TrainingError(
                f"optimizer.name={run.recipe.optimizer.name} cannot work on pieces of weights ({error}). Choose another, "
                "such as adamw, lamb or sgd, or leave run.fsdp off."
            ) from error
        if run.ranks.world > 1 and _is_lost_rank(error):
            raise TrainingError(
                f"Rank {run.ranks.rank} lost another of the {run.ranks.world} ranks: it was killed, or failed with a "
                f"message of its own above. {_resume(run)}"
            ) from error
        raise


def _cures(run: Trainer) -> str:
    cures = []
    half = run.device_batch // 2
    if run.device_batch % 2 == 0:
        passes = run.recipe.global_batch // (half * run.ranks.world)
        cures.append(
            f"--set device_batch={half} accumulates {passes} passes per step: the batch of {run.recipe.global_batch} and "
            "the learning rate stay; only BatchNorm sees smaller groups"
        )
    if not run.recipe.model.grad_checkpointing:
        cures.append("--set model.grad_checkpointing=true computes activations twice instead of keeping them")
    if run.recipe.precision == "float32" and run.device.type == "cuda":
        cures.append("--set precision=bfloat16 halves most of them")
    return "; ".join(cures) + "."


def _resume(run: Trainer) -> str:
    return f"The last saved state is in {run.out}: start again with --resume."


def _is_lost_rank(error: RuntimeError) -> bool:
    words = str(error)
    return isinstance(error, torch.distributed.DistError) or any(
        word in words for word in ("Connection", "connection", "Socket", "gloo", "NCCL")
    )
