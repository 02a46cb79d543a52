"""hybridvit train: a recipe and a folder of pictures become a trained model."""

import argparse
import signal
from pathlib import Path

HELP = (
    "Train a model by a recipe on DIR/train/CLASS/*.jpg, judged on DIR/test/CLASS/*.jpg. List files, zip files, tar "
    "shards and saved Hugging Face data sets are read, too."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="a name of `hybridvit recipes`, or a YAML file")
    parser.add_argument(
        "--data", metavar="DIR", type=Path, help="folder with train/ and test/ (or val/), list, .zip ..."
    )
    parser.add_argument(
        "--root", metavar="DIR", type=Path, help="where the paths of a list file start (default: beside it)"
    )
    parser.add_argument("--val-split", metavar="SHARE", help="hold out this share of a data set that has no test part")
    parser.add_argument("--out", metavar="DIR", type=Path, help="where the run is kept (default: runs/RECIPE)")
    parser.add_argument(
        "--init", metavar="FILE", help="begin from these weights: a file, or a name such as cvt_13.ms_in1k"
    )
    parser.add_argument("--resume", action="store_true", help="go on where the run in --out stopped")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="change the recipe: optimizer.lr=1e-3",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps (default: the best there is)")
    parser.add_argument("--print", action="store_true", help="show the resolved recipe and schedule; do not train")


def run(args: argparse.Namespace) -> int:
    from hybridvit.config import load_recipe
    from hybridvit.errors import ConfigError, DataError

    if args.val_split:
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

    from hybridvit.data.opening import open_splits
    from hybridvit.train.setup import describe, prepare

    splits = open_splits(args.data, root=args.root, val_split=recipe.data.val_split) if args.data else None
    if args.print:
        print(describe(recipe, num_images=len(splits.train) if splits else None))
        return 0
    assert splits is not None

    from rich.console import Console

    from hybridvit.runtime import joined_ranks, local_device
    from hybridvit.train.loop import fit

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
        stop = fit(this_run)
    counters, say = this_run.counters, this_run.reporter.say
    if counters.step < this_run.total_steps:
        say(
            f"Stopped after step {counters.step} of {this_run.total_steps}; everything is saved. Go on with\n"
            f"  {_command(args, out)} --resume"
        )
        return 130 if stop.signal == signal.SIGINT else 0
    assert counters.best is not None
    say(
        f"Best top-1 {counters.best['top1']:.2f} % (step {counters.best_step}) of {counters.best['images']} pictures: "
        f"{out / 'best.safetensors'}"
    )
    return 0


def _command(args: argparse.Namespace, out: Path) -> str:
    """The command line that began this run."""
    words = ["hybridvit train", args.recipe, f"--data {args.data}", f"--out {out}"]
    words += [f"--root {args.root}"] if args.root else []
    words += [f"--set {' '.join(args.set)}"] if args.set else []
    words += [f"--device {args.device}"] if args.device != "auto" else []
    return " ".join(words)
