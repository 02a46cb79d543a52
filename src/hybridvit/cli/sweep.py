"""hybridvit sweep: a grid of training runs and its table."""

import argparse
from functools import cache
from pathlib import Path

from hybridvit.cli.options import add
from hybridvit.output import Table

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
    from hybridvit.data.opening import open_splits
    from hybridvit.data.source import Splits
    from hybridvit.runtime import pick_device
    from hybridvit.training.sweep import load_sweep, run_sweep

    sweep = load_sweep(args.sweep)
    out = args.out or Path("runs") / f"sweep-{Path(args.sweep).stem}"
    device = pick_device(args.device)

    @cache
    def open_data(val_split: float) -> Splits:
        share = args.val_split or val_split
        splits = open_splits(args.data, root=args.root, columns=args.columns, val_split=share)
        print(splits.summary())
        return splits

    outcomes = list(run_sweep(sweep, open_data, out=out, device=device, overrides=args.set, console=Console()))
    header = ["row", "best top-1", "last top-1", "test loss", "epochs", "published", "note"]
    rows = [(o.row, o.top1, o.last_top1, o.test_loss, o.epochs, o.published, o.note) for o in outcomes]
    show(Table(header, rows, f"{sweep.about.title}: {out / 'table.json'}"))
    if len(outcomes) < len(sweep.rows):
        print(f"Stopped after {len(outcomes)} of {len(sweep.rows)} rows. The same command goes on.")
        return 130
    return 0
