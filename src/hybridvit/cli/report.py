"""hybridvit report: one page that says how good a model is, or several runs on one."""

import argparse
from pathlib import Path

from hybridvit.cli.options import METHODS, add, refuse
from hybridvit.output import Table, to_json

HELP = """Judge CHECKPOINT on DIR/test/CLASS/*.jpg (or val, or DIR/CLASS/*.jpg) and write one HTML file that needs no
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
    if args.data is None:
        return _compare(args)
    from hybridvit.cli.progress import progress
    from hybridvit.errors import ConfigError
    from hybridvit.render.page import save_page
    from hybridvit.report.file import report_file
    from hybridvit.runtime import pick_device

    if len(args.files) > 1:
        raise ConfigError("A report is about one checkpoint: give one, or leave out --data to compare runs.")
    refuse(args, "--json", because="it is for runs side by side; `hybridvit eval --json` prints a checkpoint's figures")
    (file,) = args.files
    how = {
        name: getattr(args, name) for name in ("data", "root", "columns", "val_split", "method", "pictures", "workers")
    }
    with progress("evaluating") as evaluated, progress("explaining") as explained:
        html, result, counts = report_file(
            file,
            **how,
            batch_size=args.batch,
            device=pick_device(args.device),
            on_batch=evaluated,
            on_picture=explained,
        )
    out = args.out or file.with_suffix(".html")
    save_page(out, html)
    print(counts)
    print(f"{out}  top-1 {result.metrics.top1:.2f} % of {result.metrics.images} pictures")
    return 1 if result.broken else 0


def _compare(args: argparse.Namespace) -> int:
    from hybridvit.cli.table import show
    from hybridvit.render.page import save_page
    from hybridvit.report.history import differences, read_run
    from hybridvit.report.run import compare_page, comparison, unique_names

    runs = [read_run(folder) for folder in args.files]
    rows, differing = comparison(runs), differences(runs)
    if args.json:
        print(to_json({"runs": rows, "differences": dict(differing)}))
    else:
        lines = [[f"{v:.2f}" if isinstance(v, float) else v for v in row.values()] for row in rows]
        recipes = Table(["recipe", *unique_names(runs)], [[key, *values] for key, values in differing])
        show(Table(list(rows[0]), lines), *(["", recipes] if differing else []))
    if args.out:
        save_page(args.out, compare_page(runs))
        if not args.json:
            print(f"\nThe curves are in {args.out}")
    return 0
