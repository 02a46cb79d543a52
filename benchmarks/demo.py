"""Claim: `hybridvit demo` reaches 99 % on 899 unseen digits within two minutes on two cores (median of 5 seeds).

    python benchmarks/demo.py [--seeds 0 1 2 3 4] [--out FOLDER]

Runs the demo as a user does, one at a time, and writes benchmarks/demo-DATE.md and .json.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

MODELS = ("cvt_nano", "cmt_nano")
HYBRIDVIT = str(Path(sys.executable).with_name("hybridvit"))


def run_demo(model: str, seed: int, folder: Path) -> dict[str, Any]:
    """One demo in a fresh folder. Units: seconds; cpu_s sums all threads and processes."""
    out = folder / f"{model}-{seed}"
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        [HYBRIDVIT, "demo", "--model", model, "--seed", str(seed), "--out", str(out)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    wall_s, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    score = subprocess.run(
        [HYBRIDVIT, "score", str(out / "logits.npz"), "--json"], check=True, capture_output=True, text=True
    )
    metrics = json.loads(score.stdout)
    row = {
        "model": model,
        "seed": seed,
        "top1": round(metrics["top1"], 2),
        "wrong": metrics["images"] - metrics["correct"],
        "wall_s": round(wall_s, 1),
        "cpu_s": round(cpu_s, 1),
    }
    print(row, flush=True)
    return row


def write(rows: list[dict[str, Any]], stem: Path) -> None:
    about = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        ).stdout.strip(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cores": os.cpu_count(),
    }
    stem.with_suffix(".json").write_text(json.dumps({"about": about, "runs": rows}, indent=2) + "\n")
    lines = [
        "# hybridvit demo: accuracy and time",
        "",
        ", ".join(f"{key} {value}" for key, value in about.items()) + ". Written by benchmarks/demo.py.",
        "",
        "| model | seed | top-1 % | wrong of 899 | wall s | CPU s / 2 |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {r['model']} | {r['seed']} | {r['top1']:.2f} | {r['wrong']} | {r['wall_s']:.0f} | {r['cpu_s'] / 2:.0f} |"
            for r in rows
        ),
        "",
    ]
    for model in MODELS:
        chosen = [row for row in rows if row["model"] == model]
        if chosen:
            top1, wall, cpu = (statistics.median(row[key] for row in chosen) for key in ("top1", "wall_s", "cpu_s"))
            lines.append(f"Median {model}: {top1:.2f} %, {wall:.0f} s wall, {cpu / 2:.0f} s of two cores.")
    stem.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where the result is written")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        all_rows = [run_demo(model, seed, Path(folder)) for model in args.models for seed in args.seeds]
    write(all_rows, args.out / f"demo-{datetime.now(UTC):%Y-%m-%d}")
