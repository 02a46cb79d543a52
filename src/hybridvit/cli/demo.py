"""hybridvit demo: from nothing to a trained, evaluated and kept model, by the commands anyone would type."""

import argparse
import shlex
import shutil
import sys
import time
from pathlib import Path

from hybridvit.cli.options import add
from hybridvit.demos import DEMOS
from hybridvit.errors import ConfigError

HELP = """Write scikit-learn's 1,797 handwritten digits as a folder of pictures, then train a small hybrid on the
first 898, evaluate it on the other 899, predict a few and draw a report: about two minutes on two CPU cores. With
--task detection, find the digits on scenes that are composed of them, with --task segmentation every pixel of theirs:
longer, some 400 seconds of CPU for detection. Every step is a command that works on your own folder, too, and is shown."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    models = sorted({model for demo in DEMOS.values() for model in demo[1]})
    add(parser, "--task", choices=list(DEMOS), default="classification", help="what is learnt")
    add(parser, "--model", choices=models, help="what is trained (default: the task's first)")
    add(parser, "--out", metavar="DIR", type=Path, help="where all goes (default: runs/demo-MODEL-SEED)")
    add(parser, "--seed", "--set")


def run(args: argparse.Namespace) -> int:
    from hybridvit.cli.main import main

    began = time.monotonic()
    plan_of, models = DEMOS[args.task]
    model = args.model or models[0]
    if model not in models:
        raise ConfigError(f"--task {args.task} shows {', '.join(models)}; {model} is of another task.")
    out = args.out or Path("runs") / f"demo-{model}-{args.seed}"
    program = "hybridvit" if shutil.which("hybridvit") else sys.argv[0]  # `make demo` leaves it in .venv/bin
    train = ["--out", out / "run", "--set", f"model.name={model}", f"seed={args.seed}", *args.set]
    if (out / "run" / "metrics.jsonl").exists():
        train.append("--resume")  # an interrupted demo goes on, a finished one is shown again
    plan = plan_of(out, train, program)
    print(plan.said)
    for step in plan.steps:
        words = [str(word) for word in step]
        print(f"\n$ {program} {shlex.join(words)}", flush=True)
        code = main(words)
        if code:
            return code
        if step[0] == "train" and not (out / "run" / "last.safetensors").exists():
            return 0  # stopped by a signal: it has said how to go on
    print(f"\nMade in {time.monotonic() - began:.0f} s:\n{plan.made}\n\nWorth typing next:\n{plan.next}")
    return 0
