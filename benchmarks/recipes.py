"""Every published recipe for a few steps on generated pictures of ImageNet's shape: 1,000 classes, 500 x 375 JPEGs.

    python benchmarks/recipes.py [--steps 3] [--only cvt_13 cmt_s] [--batch 8] [--device-batch 2] [--whole-batch]
        [--own-precision]

The recipes run as they are, but for the batch, which asks for more devices than there are: --batch pictures per step in
passes of --device-batch, so that every recipe accumulates; and for 16-bit precision, which CPUs imitate slowly.
--whole-batch keeps the recipe's own batch, in as many passes as it takes; --own-precision its 16 bits. A recipe that begins
with weights gets untrained ones for 22 classes at the architecture's own size, so that head and resolution change as with
a real file. It shows that each recipe starts, steps and stays finite, and what a step costs; it says nothing about
accuracy.
"""

import argparse
import contextlib
import itertools
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from hybridvit.config import Recipe, list_recipes, load_recipe
from hybridvit.data.opening import open_splits
from hybridvit.models import catalog
from hybridvit.training.loop import fit, prepare
from hybridvit.weights import checkpoint


class EnoughError(Exception):
    pass


def write_tree(root: Path, pictures: int) -> Path:
    """1,000 classes with so many training pictures and one test picture each."""
    rng = np.random.default_rng(0)
    for number in range(1000):
        small = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC)
        for split, count in (("train", pictures), ("val", 1)):
            folder = root / split / f"n{number:08d}"
            folder.mkdir(parents=True)
            for copy in range(count):
                picture.save(folder / f"{copy}.jpg", quality=85)
    return root


def write_weights(recipe: Recipe, path: Path) -> Path:
    torch.manual_seed(0)
    checkpoint.save(catalog.create(recipe.model.name, num_classes=22), path)
    return path


def run_steps(name: str, data: Path, out: Path, *, steps: int, overrides: list[str]) -> dict[str, object]:
    recipe = load_recipe(name, [*overrides, "run.workers=1", "run.log_steps=1"])
    init = write_weights(recipe, out.with_suffix(".safetensors")) if "--init" in recipe.about.command else None
    run = prepare(recipe, open_splits(data), out=out, device=torch.device("cpu"), init=init)
    times, losses = [time.perf_counter()], []

    def record(line: dict[str, Any]) -> int:
        times.append(time.perf_counter())
        losses.append(line["loss"])
        if line["step"] == steps:
            raise EnoughError
        return 0

    run.reporter.record = record  # type: ignore[method-assign]
    with contextlib.suppress(EnoughError):
        fit(run)
    seconds = [round(b - a, 1) for a, b in itertools.pairwise(times)]
    return {
        "recipe": name,
        "precision": recipe.precision,
        "passes": recipe.global_batch // run.device_batch,
        "losses": [round(loss, 3) if loss is not None else None for loss in losses],
        "skipped": run.counters.skipped,
        "scale": run.scaler.get_scale() if run.scaler.is_enabled() else None,
        "s": seconds,
        "peak_GB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device-batch", type=int, default=2)
    parser.add_argument("--whole-batch", action="store_true")
    parser.add_argument("--own-precision", action="store_true")
    parser.add_argument("--only", nargs="+", default=list_recipes())
    args = parser.parse_args()
    overrides = [f"device_batch={args.device_batch}"]
    if not args.whole_batch:
        overrides.append(f"global_batch={args.batch}")
    if not args.own_precision:
        overrides.append("precision=float32")
    with tempfile.TemporaryDirectory() as folder:
        data = write_tree(Path(folder) / "tree", pictures=5 if args.whole_batch else 2)
        for name in args.only:
            found = run_steps(name, data, Path(folder) / name, steps=args.steps, overrides=overrides)
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
