"""What writing pieces costs over the plain loop: python benchmarks/pieces.py [PICTURES]

Pictures of noise, 160 x 120 JPEG, through cmt_nano at 32 pixels on one thread, so that little but the overhead is to be seen.
All ways in turn, three times; the least of processor seconds and of seconds on the clock.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import hybridvit
from hybridvit.config import Preprocess
from hybridvit.models import catalog
from hybridvit.weights import checkpoint


def make(root: Path, count: int) -> tuple[Path, Path]:
    """Weights, and a folder of pictures."""
    rng, folder = np.random.default_rng(0), root / "pictures"
    folder.mkdir()
    for number in range(count):
        pixels = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((160, 120)).save(folder / f"{number:06d}.jpg")
    model = catalog.create("cmt_nano", num_classes=10)
    checkpoint.save(model, root / "model.safetensors", preprocess=Preprocess(image_size=(32, 32)))
    return root / "model.safetensors", folder


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    began = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - began[0], time.perf_counter() - began[1]


def main(count: int) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        weights, folder = make(root, count)
        taken: dict[str, list[tuple[float, float]]] = {"plain loop": [], "pieces of 1000": [], "pieces of 100": []}
        for turn in range(3):
            taken["plain loop"].append(seconds(lambda: hybridvit.embed(weights, folder)))
            for size in (1000, 100):
                out = root / f"{turn}-{size}"
                taken[f"pieces of {size}"].append(
                    seconds(lambda out=out, size=size: hybridvit.embed(weights, folder, out=out, piece_size=size))
                )
        print(f"{count} pictures, {date.today()}")
        for name, turns in taken.items():
            cpu, clock = (min(turn[k] for turn in turns) for k in (0, 1))
            print(f"{name:15} {cpu:6.2f} s CPU  {clock:6.2f} s  {count / cpu:6.0f} pictures per CPU second")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
