"""hybridvit data: look at a data set before training on it."""

import argparse
import os
from pathlib import Path
from typing import Any

from hybridvit.cli.options import add
from hybridvit.output import to_json

HELP = """check: read every picture of DIR and say what is wrong: broken, duplicated (also between train and test),
tiny and oddly labelled pictures, class balance, class order. Of boxes (COCO, YOLO, Pascal VOC): objects of every
class, what was mended, sizes that contradict. Of masks: colours, values beyond the classes, off by one, other sizes,
JPEG, and what else would be learnt wrongly in silence. Exit code 1: something would make results wrong."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "action", choices=["check"])
    add(parser, "data", metavar="DIR", type=Path, help="whatever `hybridvit train --data` reads")
    add(parser, "--root", "--columns", "--min-side")
    add(parser, "--workers", default=None, help="processes that read (default: one per core)")
    add(parser, "--report", metavar="FILE", type=Path, help="also write the findings, with pictures, as .html")
    add(parser, "--json")


def run(args: argparse.Namespace) -> int:
    from hybridvit.cli.progress import progress
    from hybridvit.cli.table import show
    from hybridvit.report.data import check_data

    def tell(report: Any) -> None:
        print(to_json({"data": str(args.data), **report.to_dict()})) if args.json else show(*report.describe())

    workers = (os.cpu_count() or 1) if args.workers is None else args.workers
    how = {name: getattr(args, name) for name in ("root", "columns", "min_side")}
    with progress("reading") as advance:
        report = check_data(args.data, workers=workers, out=args.report, on_picture=advance, on_found=tell, **how)
    if not args.report:
        tell(report)
    return 1 if report.problems else 0
