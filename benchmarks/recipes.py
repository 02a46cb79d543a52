"""Every published recipe for a few steps on generated pictures of ImageNet's shape: 1,000 classes, 500 x 375 JPEGs.

    python benchmarks/recipes.py [--steps 3] [--only cvt_13 cmt_s] [--batch 4]

The recipes run as they are, but for the batch (as many devices as they ask for do not fit here) and the precision of a
CPU. It shows that each recipe starts, steps and stays finite, and what a step costs; it says nothing about accuracy.
"""

import argparse
import contextlib
import itertools
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hybridvit.config import load_recipe, recipe_names
from hybridvit.data.folder import read_splits
from hybridvit.train.loop import fit
from hybridvit.train.setup import prepare

NOT_IMAGENET = ("digits", "finetune_small")


class EnoughError(Exception):
    pass


def write_tree(root: Path) -> Path:
    """1,000 classes with two training pictures and one test picture each."""
    rng = np.random.default_rng(0)
    for number in range(1000):
        small = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC)
        for split, count in (("train", 2), ("val", 1)):
            folder = root / split / f"n{number:08d}"
            folder.mkdir(parents=True)
            for copy in range(count):
                picture.save(folder / f"{copy}.jpg", quality=85)
    return root


def run_steps(name: str, data: Path, out: Path, *, steps: int, batch: int) -> dict[str, object]:
    overrides = [f"global_batch={batch}", f"device_batch={max(batch // 2, 2)}", "precision=float32", "run.workers=1"]
    run = prepare(
        load_recipe(name, [*overrides, "run.log_steps=1"]), read_splits(data), out=out, device=torch.device("cpu")
    )
    times = [time.perf_counter()]

    def stepped(step: int, _: int) -> None:
        times.append(time.perf_counter())
        if step == steps:
            raise EnoughError

    run.reporter.stepped = stepped  # type: ignore[method-assign]
    with contextlib.suppress(EnoughError):
        fit(run)
    losses = [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    seconds = [round(b - a, 2) for a, b in itertools.pairwise(times)]
    return {
        "recipe": name,
        "losses": [round(loss, 3) for loss in losses],
        "skipped": run.counters.skipped,
        "s": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--only", nargs="+", default=[name for name in recipe_names() if name not in NOT_IMAGENET])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = write_tree(Path(folder) / "tree")
        for name in args.only:
            print(
                json.dumps(run_steps(name, data, Path(folder) / name, steps=args.steps, batch=args.batch)), flush=True
            )


if __name__ == "__main__":
    main()
