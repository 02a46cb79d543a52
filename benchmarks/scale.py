"""From what a step costs to what a cluster would take: the tables of docs/scale.md.

    python benchmarks/scale.py        # reads benchmarks/training-2026-11-21.json

The first table is measured. The others are arithmetic on it, on the models' sizes and on the assumptions below, which are
data sheets and guesses: put in your own.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from hybridvit.config import load_recipe
from hybridvit.models.catalog import ARCHITECTURES

MEASURED = Path(__file__).with_name("training-2026-11-21.json")
RECIPES = ("cmt_ti", "cmt_s", "cvt_13", "cvt_w24_384")
GPUS = (8, 64, 512)
IMAGENET = 1_281_167

PEAK = 312e12  # FLOP/s of an A100, bfloat16, data sheet
REACHED = 0.25  # share of it: assumed
IN_NODE = 200e9  # bytes/s a GPU sends to its neighbours among 8 on NVLink: two thirds of the data sheet
BETWEEN_NODES = 20e9  # bytes/s a GPU sends to other nodes: 200 Gbit/s each, four fifths of it
CORES = 16  # processor cores per GPU
DISK = 1e9  # bytes/s one process writes


class Step(NamedTuple):
    """One step of one GPU. Times in seconds."""

    pictures: float
    compute: float
    all_reduce: float
    cores: float
    """Processor cores that must load pictures so that this GPU does not wait."""
    seconds: float
    binds: str


def step(recipe_name: str, gpus: int, *, loading_rate: float, passes: int = 2) -> Step:
    """passes: times each weight's bytes travel, 2 for an all-reduce, 3 for FSDP (gathered twice, scattered once)."""
    recipe = load_recipe(recipe_name)
    model = ARCHITECTURES[recipe.model.name]
    pictures = recipe.global_batch / gpus
    assert model.gmacs is not None
    compute = pictures * 6e9 * model.gmacs / (PEAK * REACHED)  # 2 FLOP each, forward once and backward twice
    link = IN_NODE if gpus <= 8 else BETWEEN_NODES
    travel = passes * (gpus - 1) / gpus * 4 * model.params / link
    busy = compute + max(0.0, travel - compute * 2 / 3)  # it travels while the backward pass goes on
    loading = pictures / (CORES * loading_rate)
    seconds = max(busy, loading)
    binds = "loading" if loading > busy else "all-reduce" if busy > compute * 1.1 else "compute"
    return Step(pictures, compute, travel, pictures / busy / loading_rate, seconds, binds)


def table(head: str, rows: Iterable[Iterable[str]]) -> str:
    lines = [f"| {head} |", "|" + " --- |" * (head.count("|") + 1)]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def measured_table(measured: dict[str, Any]) -> str:
    rows = []
    for name, cost in measured["steps"].items():
        parts, saved, batch = cost["cpu_seconds"], cost["checkpoint"], cost["batch"]
        loading = batch / measured["loading_pictures_per_cpu_second"]
        travel = cost["parameters"] * 4 * measured["all_reduce"]["seconds"] / measured["all_reduce"]["bytes"]
        steady = (loading + parts["forward"] + parts["backward"]) / batch + parts["optimizer"] / _batch_of(name)
        rows.append(
            [
                f"{name}, {batch}",
                *(f"{seconds:.3f}" for seconds in (loading, parts["forward"], parts["backward"], parts["optimizer"])),
                f"{travel:.2f}",
                f"{saved['bytes'] / 1e6:.0f} MB, {saved['seconds']:.1f} s",
                f"{steady * IMAGENET / 3600:.0f}",
            ]
        )
    head = (
        "recipe, pictures | loading | forward | backward | optimizer | all-reduce, 2 processes | checkpoint | "
        "CPU hours per epoch of ImageNet"
    )
    return table(head, rows)


def _batch_of(name: str) -> int:
    return load_recipe(name).global_batch


def computed_table(measured: dict[str, Any]) -> str:
    rate = measured["loading_pictures_per_cpu_second"]
    rows = []
    for name in RECIPES:
        recipe = load_recipe(name)
        epochs = recipe.schedule.epochs + recipe.schedule.cooldown_epochs
        for gpus in GPUS:
            one = step(name, gpus, loading_rate=rate)
            epoch = IMAGENET // recipe.global_batch * one.seconds
            rows.append(
                [
                    name,
                    str(gpus),
                    f"{one.pictures:g}",
                    f"{1000 * one.compute:.1f}",
                    f"{1000 * one.all_reduce:.1f}",
                    f"{one.cores:.1f}",
                    f"{1000 * one.seconds:.1f}",
                    f"{epoch / 60:.2f}",
                    f"{epochs * epoch / 3600:.1f}",
                    one.binds,
                ]
            )
    head = (
        "recipe | GPUs | pictures per GPU | compute, ms | all-reduce, ms | cores to load, per GPU | step, ms | "
        "epoch, min | whole run, h | what binds"
    )
    return table(head, rows)


def memory_table() -> str:
    """Bytes per GPU that the model takes before any picture, and what is written."""
    rows = []
    for name in RECIPES:
        recipe = load_recipe(name)
        weights = 4 * ARCHITECTURES[recipe.model.name].params
        held = 4 + bool(recipe.ema.decay)  # weights, gradients, two of AdamW's, the average
        state = (held - 1) * weights
        rows.append(
            [
                name,
                f"{held * weights / 1e9:.2f}",
                *(f"{held * weights / gpus / 1e9:.3f}" for gpus in GPUS),
                f"{state / 1e9:.2f}",
                f"{state / DISK:.1f}",
                f"{state / DISK / 8:.2f}",
                f"{3 * 7 / 8 * weights / IN_NODE * 1000:.0f} / {3 * 63 / 64 * weights / BETWEEN_NODES * 1000:.0f}",
            ]
        )
    head = (
        "recipe | whole, GB per GPU | split over 8 | over 64 | over 512 | state, GB | written by one, s | "
        "by 8, s | weights under way per step on 8 / 64, split, ms"
    )
    return table(head, rows)


def main() -> None:
    measured = json.loads(MEASURED.read_text())
    print("\n\n".join((measured_table(measured), computed_table(measured), memory_table())))


if __name__ == "__main__":
    main()
