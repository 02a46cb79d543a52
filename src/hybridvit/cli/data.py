"""hybridvit data: look at a data set before training on it."""

import argparse
import os
from functools import partial
from pathlib import Path

from hybridvit.cli.options import add, chosen

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
    from hybridvit.cli.table import tell
    from hybridvit.report.data import check_data

    say = partial(tell, as_json=args.json, data=str(args.data))
    how = chosen(args, "root", "columns", "min_side")
    how["workers"] = (os.cpu_count() or 1) if args.workers is None else args.workers
    with progress("reading") as advance:
        report = check_data(args.data, out=args.report, on_picture=advance, on_found=say, **how)
    if not args.report:
        say(report)
    return 1 if report.problems else 0
