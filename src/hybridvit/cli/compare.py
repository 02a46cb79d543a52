"""hybridvit compare: several runs on one page."""

import argparse
import json
from pathlib import Path

HELP = (
    "Compare runs of `hybridvit train` by their folders: figures, recipes and curves, as a table and as one HTML page."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="a folder with metrics.jsonl and recipe.yaml")
    parser.add_argument("--out", metavar="FILE", type=Path, help="also write the page, with all curves, as .html")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    from hybridvit.cli.table import show
    from hybridvit.evaluate.history import differences, read_run
    from hybridvit.evaluate.page import save_page
    from hybridvit.evaluate.run_page import compare_page, comparison, unique_names

    runs = [read_run(folder) for folder in args.runs]
    rows, differing = comparison(runs), differences(runs)
    if args.out:
        save_page(args.out, compare_page(runs))
    if args.json:
        print(json.dumps({"runs": rows, "differences": dict(differing)}, indent=2, ensure_ascii=False))
        return 0
    show(list(rows[0]), [[f"{v:.2f}" if isinstance(v, float) else v for v in row.values()] for row in rows])
    if differing:
        print()
        show(["recipe", *unique_names(runs)], [[key, *values] for key, values in differing])
    if args.out:
        print(f"\nThe curves are in {args.out}")
    return 0
