"""What one training step and one checkpoint cost here, part by part.

    OMP_NUM_THREADS=1 python benchmarks/training.py > benchmarks/training-2026-11-21.json

Times of loading, forward, backward and optimizer are CPU seconds of one thread, the least of the rounds, so that other
work on the machine does not count; a checkpoint's time is on the clock, with the flush to the disk; so is the all-reduce,
of two processes on this machine (gloo). Loading is the cvt_13 recipe's augmentation of JPEGs of 500 x 375 pixels.
"""

import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from loading import write_pictures

from hybridvit.config import load_recipe
from hybridvit.data.loader import normalize, train_loader
from hybridvit.data.readers.folder import read_folder
from hybridvit.data.sampler import TrainSampler
from hybridvit.deploy import bench
from hybridvit.tasks.classification import TASK
from hybridvit.tasks.mixing import loss_of
from hybridvit.training.building import build_model
from hybridvit.training.optim import create_optimizer
from hybridvit.training.shard import clip_gradients
from hybridvit.training.state import save_state

BATCHES = {"cmt_s": 4, "cvt_13": 4, "cvt_w24_384": 1}
"""Recipe: pictures per forward pass here."""
ROUNDS = 3


def timed(work: Callable[[], Any], clock: Callable[[], float] = time.process_time) -> tuple[float, Any]:
    begin = clock()
    result = work()
    return clock() - begin, result


def step_cost(name: str, batch: int) -> dict[str, Any]:
    """CPU seconds of a step's parts, and the checkpoint's bytes and seconds."""
    recipe = load_recipe(name)
    model = build_model(recipe, num_classes=1000).train()
    optimizer = create_optimizer(model, recipe.optimizer)
    pictures = torch.randint(0, 256, (batch, 3, *recipe.preprocess.image_size), dtype=torch.uint8)
    images = normalize(pictures.contiguous(memory_format=torch.channels_last), recipe.preprocess)
    labels = torch.randint(1000, (batch,))
    least: dict[str, float] = {}
    for _ in range(ROUNDS):
        forward, loss = timed(lambda: loss_of(model(images), labels, smoothing=0.1))
        backward, _ = timed(loss.backward)
        clip, _ = timed(lambda: clip_gradients(model, 1.0))
        update, _ = timed(optimizer.step)
        optimizer.zero_grad()
        parts = {"forward": forward, "backward": backward, "optimizer": clip + update}
        least = {part: min(seconds, least.get(part, seconds)) for part, seconds in parts.items()}
    with tempfile.TemporaryDirectory() as folder:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        seconds, path = timed(lambda: save_state(Path(folder), 1, state), time.monotonic)
        checkpoint = {"bytes": path.stat().st_size, "seconds": seconds}
    parameters = sum(p.numel() for p in model.parameters())
    return {"batch": batch, "parameters": parameters, "cpu_seconds": least, "checkpoint": checkpoint}


def loading_rate(pictures: int = 256) -> float:
    """Pictures per CPU second."""
    recipe = load_recipe("cvt_13")
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder), pictures)
        source = read_folder(Path(folder))
        sampler = TrainSampler(len(source), global_batch=64, device_batch=64, epochs=1, seed=0)
        loader = train_loader(source, sampler, transform=TASK.train_transform(recipe))
        seconds, count = timed(lambda: sum(len(normalize(batch.images, recipe.preprocess)) for batch in loader))
    return count / seconds


def all_reduce(megabytes: int = 100) -> None:
    """Run by both processes: print the least seconds for that much."""
    dist.init_process_group("gloo")
    buffer = torch.ones(megabytes * 250_000)
    seconds = min(timed(lambda: dist.all_reduce(buffer), time.monotonic)[0] for _ in range(5))
    if dist.get_rank() == 0:
        print(seconds)
    dist.destroy_process_group()


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1:] == ["all-reduce"]:
        all_reduce()
        return
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__, "all-reduce"]
    done = subprocess.run(two, capture_output=True, text=True, check=True)
    result = {
        **bench.machine(),
        "loading_pictures_per_cpu_second": loading_rate(),
        "all_reduce": {"bytes": 100_000_000, "processes": 2, "seconds": float(done.stdout.split()[-1])},
        "steps": {},
    }
    for name, batch in BATCHES.items():
        result["steps"][name] = step_cost(name, batch)
        gc.collect()
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
