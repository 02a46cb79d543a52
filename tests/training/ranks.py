"""ranks.py JSON: the runs of a list, one after the other, in each process of a job. A run is

data, out, overrides of the recipe (digits unless it says another), and perhaps resume, kill: this rank kills itself at step 7.

Chunks, and so drop path, mixing and augmentation, are the same at any number of processes; gradients are the same means.
Only BatchNorm's running statistics, which follow one process's chunks, differ. So the runs keep the model's BatchNorm
layers in evaluation mode, as fine-tuning with model.freeze does, unless they say "batchnorm".
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from rich.console import Console

from hybridvit.config import load_recipe
from hybridvit.runtime import joined_ranks
from hybridvit.tasks import find_task
from hybridvit.training.loop import fit, prepare

torch.set_num_threads(1)
device = torch.device("cpu")
with joined_ranks(device) as ranks:
    for job in json.loads(sys.argv[1]):
        recipe = load_recipe(job.get("recipe", "digits"), job["overrides"])
        run = prepare(
            recipe,
            find_task(recipe.task).open_splits(job["data"]),
            out=Path(job["out"]),
            device=device,
            ranks=ranks,
            resume=job.get("resume", False),
            console=Console(soft_wrap=True),
        )
        if job.get("kill") == ranks.rank:
            run.reporter.stepped = lambda step, _: step == 7 and os.kill(os.getpid(), signal.SIGKILL)  # type: ignore
        if not job.get("batchnorm"):
            run.modes.frozen = [m for m in run.model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        fit(run)
