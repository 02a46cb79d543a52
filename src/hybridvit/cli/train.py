"""hybridvit train: a recipe and a folder of pictures become a trained model."""

import argparse
import shlex
import signal
from pathlib import Path

from hybridvit.cli.options import add, chosen
from hybridvit.errors import ConfigError, DataError

HELP = """Train a model by a recipe on DIR/train/CLASS/*.jpg, evaluated on DIR/test/CLASS/*.jpg. List files, zip files,
tar shards and saved Hugging Face data sets are read, too."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "recipe", metavar="RECIPE", help="a name of `hybridvit recipes`, or a YAML file")
    add(parser, "--data", "--root", "--columns")
    add(parser, "--val-split", default=None, help="hold out this share of a data set that has no test part")
    add(parser, "--out", metavar="DIR", type=Path, help="where the run is kept (default: runs/RECIPE)")
    add(parser, "--init", metavar="FILE", help="begin from these weights: a file, or a name such as cvt_13.ms_in1k")
    add(parser, "--resume", action="store_true", help="go on where the run in --out stopped; begin where there is none")
    add(parser, "--set", "--device")
    add(parser, "--print", action="store_true", help="show the resolved recipe and schedule; do not train")


def run(args: argparse.Namespace) -> int:
    from hybridvit.config import load_recipe

    if args.val_split is not None:
        args.set.append(f"data.val_split={args.val_split}")
    recipe = load_recipe(args.recipe, args.set)
    if args.data is None and not args.print:
        raise ConfigError("--data DIR is missing: the folder with train/CLASS/*.jpg and test/CLASS/*.jpg.")
    if args.data and (not args.data.exists() or (args.data.is_dir() and not any(args.data.iterdir()))):
        state = "is empty" if args.data.exists() else "does not exist"
        raise DataError(
            f"{args.data} {state}. Expected {args.data}/train/CLASS/PICTURE.jpg and {args.data}/test/CLASS/PICTURE.jpg, "
            "or a list file, .zip, tar shards or saved Hugging Face data set (docs/data.md)."
        )

    from rich.console import Console

    from hybridvit.api import train
    from hybridvit.tasks import find_task
    from hybridvit.training.evaluation import in_percent
    from hybridvit.training.optim import describe

    splits, task = None, find_task(recipe.task)
    if args.data:
        splits = task.open_splits(args.data, val_split=recipe.data.val_split, **chosen(args, "root", "columns"))
    if args.print or splits is None:
        print(describe(recipe, num_images=len(splits.train) if splits else None))
        return 0
    out = args.out or Path("runs") / Path(args.recipe).stem
    done = train(recipe, splits, out=out, console=Console(), **chosen(args, "init", "resume", "device"))
    if not done.finished:
        done.say(
            f"Stopped after step {done.step} of {done.total_steps}; everything is saved. Go on with\n"
            f"  {resume_command(args, out)}"
        )
        return 130 if done.stopped_by == signal.SIGINT else 0
    assert done.best is not None
    done.say(
        f"Best {task.primary_name} {in_percent(done.best[task.primary])} (step {done.best['step']}) of "
        f"{len(splits.test)} pictures: {out / 'best.safetensors'}"
    )
    return 0


def resume_command(args: argparse.Namespace, out: Path) -> str:
    """The command line that goes on with this run, as a shell takes it."""
    words = ["hybridvit", "train", args.recipe, "--data", args.data, "--out", out]
    words += ["--root", args.root] if args.root else []
    words += ["--columns", ",".join(args.columns)] if args.columns else []
    words += ["--set", *args.set] if args.set else []
    words += ["--device", args.device] if args.device != "auto" else []
    return shlex.join([*map(str, words), "--resume"])
