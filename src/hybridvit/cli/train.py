"""hybridvit train: a recipe and a folder of pictures become a trained model."""

import argparse
import shlex
import signal
from pathlib import Path

from hybridvit.cli.options import add

HELP = """Train a model by a recipe on DIR/train/CLASS/*.jpg, judged on DIR/test/CLASS/*.jpg. List files, zip files,
tar shards and saved Hugging Face data sets are read, too."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "recipe", metavar="RECIPE", help="a name of `hybridvit recipes`, or a YAML file")
    add(parser, "--data", "--root", "--columns")
    add(parser, "--val-split", default=None, help="hold out this share of a data set that has no test part")
    add(parser, "--out", metavar="DIR", type=Path, help="where the run is kept (default: runs/RECIPE)")
    add(parser, "--init", metavar="FILE", help="begin from these weights: a file, or a name such as cvt_13.ms_in1k")
    add(parser, "--resume", action="store_true", help="go on where the run in --out stopped")
    add(parser, "--set", "--device")
    add(parser, "--print", action="store_true", help="show the resolved recipe and schedule; do not train")


def run(args: argparse.Namespace) -> int:
    from hybridvit.config import load_recipe
    from hybridvit.errors import ConfigError, DataError

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

    from hybridvit.tasks import find_task
    from hybridvit.training.optim import describe

    splits = None
    if args.data:
        splits = find_task(recipe.task).open_splits(
            args.data, root=args.root, columns=args.columns, val_split=recipe.data.val_split
        )
    if args.print:
        print(describe(recipe, num_images=len(splits.train) if splits else None))
        return 0
    assert splits is not None

    from rich.console import Console

    from hybridvit.runtime import joined_ranks, local_device
    from hybridvit.training.evaluation import in_percent
    from hybridvit.training.loop import fit, prepare

    out = args.out or Path("runs") / Path(args.recipe).stem
    device = local_device(args.device)
    with joined_ranks(device) as ranks:
        this_run = prepare(
            recipe,
            splits,
            out=out,
            device=device,
            ranks=ranks,
            init=args.init,
            resume=args.resume,
            console=Console(),
        )
        this_run.reporter.say(splits.summary())
        stop = fit(this_run)
    counters, task, say = this_run.counters, this_run.task, this_run.reporter.say
    if not this_run.finished:
        say(
            f"Stopped after step {counters.step} of {this_run.total_steps}; everything is saved. Go on with\n"
            f"  {resume_command(args, out)}"
        )
        return 130 if stop.signal == signal.SIGINT else 0
    assert counters.best is not None
    say(
        f"Best {task.primary_name} {in_percent(counters.best[task.primary])} (step {counters.best_step}) of "
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
