"""hybridvit data: look at a data set before training on it."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hybridvit.cli.options import add
from hybridvit.output import to_json

if TYPE_CHECKING:
    from hybridvit.data.check import DataReport

HELP = """check: read every picture of DIR and say what is wrong: broken, duplicated (also between train and test),
tiny and oddly labelled pictures, class balance, class order. Exit code 1: something would make results wrong."""
MOST = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "action", choices=["check"])
    add(parser, "data", metavar="DIR", type=Path, help="whatever `hybridvit train --data` reads")
    add(parser, "--root", "--columns", "--min-side")
    add(parser, "--workers", default=None, help="processes that read (default: one per core)")
    add(parser, "--report", metavar="FILE", type=Path, help="also write the findings, with pictures, as .html")
    add(parser, "--json")


def run(args: argparse.Namespace) -> int:
    from hybridvit.cli.progress import progress
    from hybridvit.data.check import check
    from hybridvit.data.opening import open_parts

    parts = open_parts(args.data, root=args.root, columns=args.columns)
    workers = (os.cpu_count() or 1) if args.workers is None else args.workers
    with progress("reading", total=sum(map(len, parts.values()))) as advance:
        report = check(parts, workers=workers, min_side=args.min_side, on_progress=advance)
    if args.json:
        print(to_json({"data": str(args.data), **report.to_dict()}))
    else:
        _show(report)
    if args.report:
        from hybridvit.render.page import save_page
        from hybridvit.report.data import data_page

        save_page(args.report, data_page(report, title=str(args.data)))
    return 1 if report.problems else 0


def _show(report: "DataReport") -> None:
    from hybridvit.cli.table import show

    if report.sizes:
        print(f"{report.size_words()}\n")
    parts = list(report.counts)
    for part in parts:
        print(f"{part or 'whole'}: {report.files[part]['taken']} pictures of {report.files[part]['seen']} seen")
    rows: list[list[object]] = [[name, *(report.counts[p][k] for p in parts)] for k, name in enumerate(report.classes)]
    if len(rows) > 2 * MOST:
        rows.sort(key=lambda row: row[1:])
        rows = [*rows[:MOST], ["...", *(None for _ in parts)], *rows[-MOST:]]
    show(["class", *(part or "pictures" for part in parts)], rows)
    for title, lines in report.listings().items():
        if lines:
            print(f"\n{title} ({len(lines)}):", *lines[:MOST], sep="\n  ")
            if len(lines) > MOST:
                print(f"  ... {len(lines) - MOST} more (--json lists all)")
    print()
    for word, findings in (("PROBLEM", report.problems), ("notice", report.notices)):
        for text in findings:
            print(f"{word}: {text}")
    if not report.problems:
        print("No problem found.")
