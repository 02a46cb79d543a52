"""BatchNorm statistics measured anew, with the final weights, as a plain mean over many batches."""

import itertools

import torch

from hybridvit.data.loader import normalize
from hybridvit.data.sampler import TrainSampler
from hybridvit.kernels.private import BatchNorm
from hybridvit.runtime import autocast, weights_dtype
from hybridvit.training.trainer import Trainer


@torch.no_grad()
def measure_batchnorm(run: Trainer) -> None:
    """Replace the evaluated model's running means and variances by their means over augmented, unmixed training batches.

    Of an accumulated batch every chunk counts. The pictures come in the order of the epoch after the last.
    Source: arXiv 2105.07576, section 3.
    """
    model, recipe = run.evaluated, run.recipe
    norms = [module for module in model.modules() if isinstance(module, BatchNorm) and module.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    epochs = -(-recipe.batchnorm.precise_batches // run.steps_per_epoch)
    sampler = TrainSampler(
        len(run.splits.train),
        global_batch=recipe.global_batch,
        device_batch=run.device_batch,
        epochs=run.schedule.epochs + epochs,
        seed=recipe.seed,
        first_step=run.total_steps,
    )
    loader = run.load(sampler)
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
        norm.train()
    for batch in itertools.islice(loader, recipe.batchnorm.precise_batches * recipe.global_batch // run.device_batch):
        with autocast(run.device, recipe.precision):
            model(normalize(batch.images.to(run.device), recipe.preprocess, weights_dtype(recipe.precision)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()
