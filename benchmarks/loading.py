"""Pictures per second and core that reach the device: hybridvit's loader against timm's, in one run.

    python benchmarks/loading.py [--pictures 600] [--rounds 5]

Both decode the same JPEGs of ImageNet's usual size (500 x 375), with the same augmentation (random resized crop to 224,
flip, rand-m9-mstd0.5-inc1, random erasing 0.25), into normalised batches of 64. timm's loader runs as its training
script does: ImageDataset, create_loader with the prefetcher's uint8 collation. One worker process, one thread each, the
rounds alternate, the median counts. A core is a CPU second: of the worker alone, which is what limits a GPU that
normalises and erases itself, and of the worker and the loop together, where both normalise on the CPU.
"""

import argparse
import json
import resource
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from timm.data import ImageDataset, create_loader

from hybridvit.config import load_recipe
from hybridvit.data.loader import normalize, train_loader
from hybridvit.data.readers.folder import read_folder
from hybridvit.data.sampler import TrainSampler
from hybridvit.tasks.classification import TASK
from hybridvit.tasks.mixing import Mixer

BATCH = 64
PLACES = ("worker", "worker and loop")
CPU = torch.device("cpu")


def write_pictures(root: Path, count: int) -> None:
    """JPEGs with structure at several scales, so that they are as large and as slow to decode as photographs."""
    rng = np.random.default_rng(0)
    for number in range(count):
        folder = root / f"class{number % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
            (500, 375), Image.Resampling.BICUBIC
        )
        fine = Image.fromarray(rng.integers(0, 256, (375, 500, 3), dtype=np.uint8)).filter(
            ImageFilter.GaussianBlur(1.2)
        )
        Image.blend(coarse, fine, 0.45).save(folder / f"{number:05d}.jpg", quality=90)


def ours(root: Path) -> Callable[[], int]:
    recipe = load_recipe("cvt_13")
    source = read_folder(root)

    def epoch() -> int:
        sampler = TrainSampler(len(source), global_batch=BATCH, device_batch=BATCH, epochs=1, seed=0)
        loader = train_loader(source, sampler, transform=TASK.train_transform(recipe), workers=1)
        mixer = Mixer(recipe.mix, recipe.augment, num_classes=10, device_batch=BATCH, device=CPU)
        mixer.mix = None  # timm's loader does not mix either
        pairs = ((normalize(batch.images, recipe.preprocess), torch.tensor(batch.targets)) for batch in loader)
        return sum(len(mixer(*pair)[0]) for pair in pairs)

    return epoch


def timms(root: Path) -> Callable[[], int]:
    augment = load_recipe("cvt_13").augment
    dataset = ImageDataset(str(root))

    def epoch() -> int:
        loader = create_loader(
            dataset,
            (3, 224, 224),
            BATCH,
            is_training=True,
            hflip=augment.hflip,
            color_jitter=augment.color_jitter,
            auto_augment=augment.auto_augment,
            re_prob=augment.erasing,
            re_mode=augment.erasing_mode,
            interpolation=augment.interpolation,
            num_workers=1,
            device=CPU,
            pin_memory=False,
            persistent_workers=False,
        )
        return sum(len(images) for images, _ in loader)

    return epoch


def cpu_seconds() -> tuple[float, float]:
    """Of finished workers, and of them and this process: what one core does, whatever else the machine is busy with."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)]
    workers, loop = (usage.ru_utime + usage.ru_stime for usage in usages)
    return workers, workers + loop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder), args.pictures)
        size = statistics.mean(path.stat().st_size for path in Path(folder).rglob("*.jpg"))
        contestants = {"hybridvit": ours(Path(folder)), "timm": timms(Path(folder))}
        rates: dict[str, dict[str, list[float]]] = {place: {name: [] for name in contestants} for place in PLACES}
        for _ in range(args.rounds):
            for name, epoch in contestants.items():
                start = cpu_seconds()
                count = epoch()
                for place, begin, end in zip(PLACES, start, cpu_seconds(), strict=True):
                    rates[place][name].append(round(count / (end - begin), 1))
    for place, by_name in rates.items():
        medians = {name: statistics.median(values) for name, values in by_name.items()}
        print(json.dumps({"per CPU second of": place, **by_name}))
        print(json.dumps({"median": medians, "ratio": round(medians["hybridvit"] / medians["timm"], 3)}))
    print(json.dumps({"pictures": args.pictures, "mean bytes": round(size)}))


if __name__ == "__main__":
    main()
