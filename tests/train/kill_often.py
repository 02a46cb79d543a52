"""kill_often.py DATA OUT KILLS RECIPE: train with kill -9 at random moments, resuming each time; print the kills."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from hybridvit.config import load_recipe
from hybridvit.data.folder import read_splits
from hybridvit.train.loop import fit
from hybridvit.train.setup import prepare

data, out, kills, recipe_path = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
torch.set_num_threads(1)


def attempt(workers: int) -> None:
    recipe = load_recipe(recipe_path, [f"run.workers={workers}"])
    fit(prepare(recipe, read_splits(data), out=out, device=torch.device("cpu"), resume=True))


done = attempts = 0
while True:
    attempts += 1
    child = os.fork()
    if child == 0:
        attempt(workers=attempts % 3)
        os._exit(0)
    if done < kills:
        time.sleep(random.uniform(0.0, 0.7))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        done += 1
    elif status == 0:
        break
    else:
        sys.exit("an attempt failed")
print(done)
