"""hybridvit report: one page that says how good a model is, or several runs on one."""

import argparse
from pathlib import Path

from hybridvit.cli.options import METHODS, add, chosen, refuse
from hybridvit.errors import ConfigError

HELP = """Evaluate CHECKPOINT on DIR/test/CLASS/*.jpg (or val, or DIR/CLASS/*.jpg) and write one HTML file that needs no
network: score, calibration, confusion, classes, telling pictures with maps, size and speed, origin. Without --data:
set the folders of training runs side by side, figures, recipes and curves, as a table and, with --out, as one HTML
page."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "files", metavar="CHECKPOINT|RUN", type=Path, nargs="+", help="a weights file, or folders of runs")
    add(parser, "--data", "--root", "--columns", "--val-split")
    add(parser, "--out", metavar="FILE", type=Path, help="the page; of a checkpoint by default beside it, as .html")
    add(parser, "--method", choices=METHODS, default="occlusion", help="of the maps")
    add(parser, "--pictures")
    add(parser, "--batch", "--workers", "--device", "--json")


def run(args: argparse.Namespace) -> int:
    from hybridvit.cli.progress import progress
    from hybridvit.cli.table import tell
    from hybridvit.report.file import write_report
    from hybridvit.report.run import compare_runs
    from hybridvit.runtime import pick_device

    if args.data is None:
        found = compare_runs(args.files)
        tell(found, as_json=args.json)
        if args.out:
            found.save(args.out)
            print("" if args.json else f"\nThe curves are in {args.out}\n", end="")
        return 0
    if len(args.files) > 1:
        raise ConfigError("A report is about one checkpoint: give one, or leave out --data to compare runs.")
    refuse(args, "--json", because="it is for runs side by side; `hybridvit eval --json` prints a checkpoint's figures")
    how = chosen(args, "root", "columns", "val_split", "method", "pictures", "batch_size", "workers")
    how["device"] = pick_device(args.device)
    with progress("evaluating") as evaluated, progress("explaining") as explained:
        written = write_report(args.files[0], args.data, args.out, **how, on_batch=evaluated, on_picture=explained)
    print(written.counts, written, sep="\n")
    return 1 if written.broken else 0
