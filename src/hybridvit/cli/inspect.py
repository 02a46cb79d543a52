"""hybridvit inspect: what a weights file is, and where two of them part."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hybridvit.cli.options import add, refuse
from hybridvit.output import to_json

if TYPE_CHECKING:
    from hybridvit.compare.align import Alignment
    from hybridvit.weights.report import Report

HELP = """Say what a weights file is: who wrote it, which model, what lies in it, what looks wrong. Runs nothing in
it. With a second file both run on the same pictures, and where they part is shown: in their weights, in each layer's
output in evaluation and in training mode, in each parameter's gradient. Either may be golden answers: NAME.json with
NAME.npz beside it. Exit code 1: tensors do not fit, or the two part."""
MAX_PROBLEMS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "file", metavar="FILE", type=Path, help="any published checkpoint, or one of ours")
    add(parser, "other", metavar="OTHER", type=Path, nargs="?", help="another, or golden answers (.json)")
    add(parser, "--weights", "--architecture")
    add(parser, "--images", metavar="DIR", type=Path, help="of two files: run on its first 8 pictures (default: noise)")
    add(parser, "--dtype", choices=["float64", "float32"], help="of two files: compute in it (default: float64)")
    add(parser, "--tolerance", "--json")


def run(args: argparse.Namespace) -> int:
    from hybridvit.cli.progress import progress
    from hybridvit.compare.files import align_files
    from hybridvit.weights.load import inspect

    if args.other:
        refuse(args, "--weights", "--architecture", because="two files are compared as they are")
        found = align_files(
            args.file, args.other, images=args.images, dtype=args.dtype or "float64", tolerance=args.tolerance
        )
        print(to_json(found.to_dict())) if args.json else show_alignment(found)
        return 0 if found.aligned else 1
    refuse(args, "--images", "--dtype", "--tolerance", because="they are for two files, to be compared")
    with progress("tensors") as advance:
        report = inspect(args.file, weights=args.weights, architecture=args.architecture, progress=advance)
    print(to_json(report.to_dict())) if args.json else show_report(report)
    return 1 if report.problems else 0


def show_report(report: "Report") -> None:
    """The report as a table and sentences."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for name, value in report.rows():
        console.print(f"{name:<13}", value, markup=False)
    for problem in report.problems[:MAX_PROBLEMS]:
        console.print(f"[red]does not fit[/]  {problem}", markup=True)
    if len(report.problems) > MAX_PROBLEMS:
        console.print(f"[red]does not fit[/]  ... {len(report.problems) - MAX_PROBLEMS} more; --json lists all")
    for warning in report.warnings:
        console.print(f"[yellow]warning[/]       {warning}")
    for note in report.notes:
        console.print(f"note          {note}")


def show_alignment(found: "Alignment") -> None:
    from hybridvit.cli.table import show

    header, *rows = found.table()
    title = f"A: {found.a}\nB: {found.b}\nOn {found.input}.\nRelative differences above {found.tolerance:.0e} part."
    show(header, rows, title=title)
    for name, only in (("A", found.only_a), ("B", found.only_b)):
        if only:
            print(f"Only in {name}: {', '.join(only[:5])}{f' and {len(only) - 5} more' if len(only) > 5 else ''}")
    print("\n".join(found.summary()))
