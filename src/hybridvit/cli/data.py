"""hybridvit data: look at a data set before training on it."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hybridvit.cli.options import add, refuse
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
    from hybridvit.data.check import check
    from hybridvit.data.detection.opening import find_boxes
    from hybridvit.data.mask_folders import has_masks
    from hybridvit.data.opening import open_parts

    if args.data.is_dir() and find_boxes(args.data):
        return _check_boxes(args)
    if has_masks(args.data):
        return _check_masks(args)
    parts = open_parts(args.data, root=args.root, columns=args.columns)
    workers = (os.cpu_count() or 1) if args.workers is None else args.workers
    with progress("reading", total=sum(map(len, parts.values()))) as advance:
        report = check(parts, workers=workers, min_side=args.min_side, on_progress=advance)
    if args.json:
        print(to_json({"data": str(args.data), **report.to_dict()}))
    else:
        show(*report.describe())
    if args.report:
        from hybridvit.render.page import save_page
        from hybridvit.report.data import data_page

        save_page(args.report, data_page(report, parts, title=str(args.data)))
    return 1 if report.problems else 0


def _check_boxes(args: argparse.Namespace) -> int:
    from hybridvit.data.detection.check import check_boxes
    from hybridvit.data.detection.opening import open_box_parts

    refuse(args, "--root", "--columns", "--report", because="these pictures have boxes")
    return _show(args, open_box_parts(args.data), check_boxes)


def _check_masks(args: argparse.Namespace) -> int:
    from hybridvit.data.mask_check import check_masks
    from hybridvit.data.mask_opening import open_mask_parts

    refuse(args, "--root", "--columns", "--report", because="this data set has masks")
    return _show(args, open_mask_parts(args.data), check_masks)


def _show(args: argparse.Namespace, parts: Any, check: Callable[..., Any]) -> int:
    from hybridvit.cli.progress import progress
    from hybridvit.cli.table import show

    with progress("reading", total=sum(map(len, parts.values()))) as advance:
        report = check(parts, on_progress=advance)
    if args.json:
        print(to_json({"data": str(args.data), **report.to_dict()}))
    else:
        show(*report.describe())
    return 1 if report.problems else 0
