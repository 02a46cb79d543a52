"""hybridvit sweep: a grid of training runs and its table."""

import argparse
from pathlib import Path

from hybridvit.cli.options import add, chosen

HELP = """Train a grid of recipes one row at a time and print its table. Calling it again goes on where it stopped:
finished rows are skipped, an interrupted row is resumed. FILE is a name (digits, flyegle_sgd, flyegle_adamw) or a
YAML file."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "sweep", metavar="FILE", help="a sweep's name or YAML file")
    add(parser, "--data", required=True)
    add(parser, "--root", "--columns", "--val-split")
    add(parser, "--out", metavar="DIR", type=Path, help="where the runs are kept (default: runs/sweep-FILE)")
    add(parser, "--set", "--device")


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from hybridvit.cli.table import show
    from hybridvit.training.sweep import sweep

    how = chosen(args, "out", "root", "columns", "val_split", "device")
    done = sweep(args.sweep, args.data, overrides=args.set, console=Console(), **how)
    show(*done.describe())
    if not done.finished:
        print(f"Stopped after {len(done.outcomes)} of {len(done.sweep.rows)} rows. The same command goes on.")
        return 130
    return 0
