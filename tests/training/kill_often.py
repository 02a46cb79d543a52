"""kill_often.py DATA OUT KILLS RECIPE: train with kill -9 at random moments, resuming each time; print the kills.

Each life is to save some steps, and is killed a random while later: a delay alone would, on a slow machine, kill before the first
step, and on a fast one see the end of the run.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from hybridvit.config import load_recipe
from hybridvit.data.opening import open_splits
from hybridvit.training.loop import fit, prepare

data, out, kills, recipe_path = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
torch.set_num_threads(1)


def attempt(workers: int) -> None:
    recipe = load_recipe(recipe_path, [f"run.workers={workers}"])
    fit(prepare(recipe, open_splits(data), out=out, device=torch.device("cpu"), resume=True))


def newest_state() -> str:
    return max((path.name for path in out.glob("state-*.pt")), default="")


def runs(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def wait_for_new_states(child: int, count: int) -> None:
    for _ in range(count):
        before = newest_state()
        while newest_state() == before and runs(child):
            time.sleep(0.001)


done = attempts = 0
while True:
    attempts += 1
    child = os.fork()
    if child == 0:
        attempt(workers=attempts % 3)
        os._exit(0)
    if done < kills:
        wait_for_new_states(child, random.randrange(3))
        time.sleep(random.uniform(0.0, 0.05))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        done += 1
    elif status == 0:
        break
    else:
        sys.exit("an attempt failed")
print(done)
