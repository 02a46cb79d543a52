"""Our models against ResNet-50, transformers' CvT and a written-out CMT, by turns in one process; memory, each in its own.

OMP_NUM_THREADS=2 python benchmarks/speed.py > given_back.json
OMP_NUM_THREADS=2 python benchmarks/speed.py --keep-memory > kept.json
"""

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import timm
import torch
import torch.fx.experimental.optimization
import torch.nn.functional as F
from plain_cmt import PlainCMT
from torch import Tensor, nn
from transformers import CvtConfig, CvtForImageClassification

import hybridvit
from hybridvit.deploy import bench, engines
from hybridvit.models import catalog

SIZE = (224, 224)


class TransformersCvT(CvtForImageClassification):
    def forward(self, images: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(images).logits


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "resnet50": lambda: timm.create_model("resnet50"),
    "cvt_13": lambda: catalog.create("cvt_13"),
    "cvt_13 of transformers": lambda: TransformersCvT(CvtConfig(num_labels=1000, drop_path_rate=[0.0, 0.0, 0.0])),
    "cmt_s": lambda: catalog.create("cmt_s", img_size=SIZE),
    "cmt_s written out": PlainCMT,
}


def step_of(name: str, batch_size: int, mode: str) -> Callable[[], None]:
    """One batch, in `mode` "plain" or "fused", or one training step, in mode "train"."""
    model = BUILDERS[name]().to(memory_format=torch.channels_last)
    images = torch.randn(batch_size, 3, *SIZE).contiguous(memory_format=torch.channels_last)
    if mode == "train":
        model.train()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
        labels = torch.zeros(batch_size, dtype=torch.int64)

        def train() -> None:
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()

        return train
    model.eval()
    if mode == "fused":
        if name == "resnet50":
            model = torch.fx.experimental.optimization.fuse(model)
        else:
            model = engines.build("fused", model, image_size=SIZE, batch_size=batch_size)

    @torch.inference_mode()
    def infer() -> None:
        model(images)

    return infer


def compare(names: list[tuple[str, str]], batch_size: int, rounds: int) -> list[dict[str, object]]:
    """Milliseconds, and the median over the rounds of the ratio to the first of `names`, which are (name, mode)."""
    steps = {key: step_of(key[0], batch_size, key[1]) for key in names}
    for step in steps.values():
        step()
        step()
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in names}
    for _ in range(rounds):
        for key, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[key].append(time.perf_counter() - start)
    first = seconds[names[0]]
    return [
        {
            "model": name,
            "mode": mode,
            "batch_size": batch_size,
            "rounds": rounds,
            "median_ms": round(1000 * statistics.median(times), 1),
            "least_ms": round(1000 * min(times), 1),
            "ratio": round(statistics.median(a / b for a, b in zip(times, first, strict=True)), 2),
            "ratio_of_least": round(min(times) / min(first), 2),
        }
        for (name, mode), times in seconds.items()
    ]


def peak_mib(name: str, batch_size: int, *options: str) -> float:
    """The most that two training steps take, in MiB; in a process of its own."""
    command = [sys.executable, __file__, "--peak-of", name, "--batch-size", str(batch_size), *options]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def own_peak_mib(name: str, batch_size: int) -> float:
    before = resident_mib("VmRSS")
    step = step_of(name, batch_size, "train")
    step()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far: proc(5)
    step()
    return resident_mib("VmHWM") - before


def resident_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field))) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["infer-1", "infer-16", "train-8", "memory"])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--peak-of", choices=BUILDERS)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument(
        "--keep-memory", action="store_true", help="as hybridvit's commands do: hybridvit.keep_memory()"
    )
    args = parser.parse_args()
    if args.keep_memory:
        hybridvit.keep_memory()
    if args.peak_of:
        print(own_peak_mib(args.peak_of, args.batch_size))
        return
    ours = ("cvt_13", "cmt_s")
    infer = [(name, "plain") for name in BUILDERS] + [(name, "fused") for name in ("resnet50", *ours)]
    result: dict[str, object] = bench.machine()
    for batch_size in (1, 16):
        if args.only in (None, f"infer-{batch_size}"):
            result[f"infer-{batch_size}"] = compare(infer, batch_size, args.rounds)
    if args.only in (None, "train-8"):
        result["train-8"] = compare([(name, "train") for name in BUILDERS], 8, args.rounds)
    if args.only in (None, "memory"):
        options = ["--keep-memory"] if args.keep_memory else []
        result["memory"] = {name: round(peak_mib(name, 8, *options)) for name in BUILDERS}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
