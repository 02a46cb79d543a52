"""hybridvit data: look at a data set before training on it."""

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybridvit.data.check import DataReport

HELP = (
    "check: read every picture of DIR and say what is wrong: broken, duplicated (also between train and test), tiny and "
    "oddly labelled pictures, class balance, class order. Exit code 1: something would make results wrong."
)
MOST = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["check"])
    parser.add_argument("data", metavar="DIR", type=Path, help="whatever `hybridvit train --data` reads")
    parser.add_argument("--root", metavar="DIR", type=Path, help="where the paths of a list file start")
    parser.add_argument("--min-side", metavar="N", type=int, default=32, help="smaller pictures are tiny (default: 32)")
    parser.add_argument("--workers", metavar="N", type=int, help="processes that read (default: one per core)")
    parser.add_argument("--report", metavar="FILE", type=Path, help="also write the findings, with pictures, as .html")
    parser.add_argument("--json", action="store_true", help="print JSON: every finding, none left out")


def run(args: argparse.Namespace) -> int:
    from hybridvit.cli.progress import progress
    from hybridvit.data.check import check
    from hybridvit.data.opening import open_parts

    parts = open_parts(args.data, root=args.root)
    workers = (os.cpu_count() or 1) if args.workers is None else args.workers
    with progress("reading", total=sum(map(len, parts.values()))) as advance:
        report = check(parts, workers=workers, min_side=args.min_side, on_progress=advance)
    if args.report:
        from hybridvit.evaluate.data_page import data_page
        from hybridvit.evaluate.page import save_page

        save_page(args.report, data_page(report, title=str(args.data)))
    if args.json:
        print(json.dumps({"data": str(args.data), **report.to_dict()}, indent=2, ensure_ascii=False))
    else:
        _show(report)
    return 1 if report.problems else 0


def _show(report: "DataReport") -> None:
    from hybridvit.cli.table import show

    sizes = report.sizes
    if sizes:
        sides = [
            f"{side} {sizes[side][0]} to {sizes[side][2]}, median {sizes[side][1]}" for side in ("width", "height")
        ]
        print(f"{'; '.join(sides)} pixels; {sizes['mean_kb']} kB each\n")
    parts = list(report.counts)
    rows: list[list[object]] = [[name, *(report.counts[p][k] for p in parts)] for k, name in enumerate(report.classes)]
    if len(rows) > 2 * MOST:
        rows.sort(key=lambda row: row[1:])
        rows = [*rows[:MOST], ["...", *(None for _ in parts)], *rows[-MOST:]]
    show(["class", *(part or "pictures" for part in parts)], rows)
    _list("Broken", [entry["error"] for entry in report.broken])
    _list("In more than one part", [" = ".join(g.names) for g in report.duplicates if g.across_parts])
    _list("More than one label", [" = ".join(g.names) for g in report.duplicates if g.across_labels])
    others = [g for g in report.duplicates if not g.across_parts and not g.across_labels]
    _list("More than once", [f"{' = '.join(g.names)}  ({g.kind})" for g in others])
    _list("Tiny", report.tiny)
    _list("Looks like another class", [f"{s.name}  is {s.label}, looks like {s.looks_like}" for s in report.suspicious])
    print()
    for word, findings in (("PROBLEM", report.problems), ("notice", report.notices)):
        for text in findings:
            print(f"{word}: {text}")
    if not report.problems:
        print("No problem found.")


def _list(title: str, lines: list[str]) -> None:
    if lines:
        print(f"\n{title} ({len(lines)}):")
        print("\n".join(f"  {line}" for line in lines[:MOST]))
        if len(lines) > MOST:
            print(f"  ... {len(lines) - MOST} more (--json lists all)")
