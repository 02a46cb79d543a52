"""hybridvit inspect: what a weights file is, and what looks wrong in it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from hybridvit.weights.report import Report

HELP = "Say what a weights file is: who wrote it, which model, what lies in it, what looks wrong. Runs nothing in it."
MAX_PROBLEMS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="any published checkpoint, or one of ours")
    parser.add_argument(
        "--weights", choices=("raw", "ema"), help="which set of weights (default: ema where there is one)"
    )
    parser.add_argument("--architecture", metavar="NAME", help="for files with our own names, which do not tell it")
    parser.add_argument("--json", action="store_true", help="everything, for programs")


def run(args: argparse.Namespace) -> int:
    """0 when the file opens, 1 when tensors do not fit."""
    import json

    from rich.console import Console

    from hybridvit.cli.progress import progress
    from hybridvit.weights.translate import translate

    with progress("tensors") as advance:
        report = translate(args.file, weights=args.weights, architecture=args.architecture, progress=advance).report
    if args.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        show(report, Console(highlight=False, soft_wrap=True))
    return 1 if report.problems else 0


def show(report: "Report", console: "Console") -> None:
    """The report as a table and sentences."""
    for name, value in rows(report):
        console.print(f"{name:<13}", value, markup=False)
    for problem in report.problems[:MAX_PROBLEMS]:
        console.print(f"[red]does not fit[/]  {problem}", markup=True)
    if len(report.problems) > MAX_PROBLEMS:
        console.print(f"[red]does not fit[/]  ... {len(report.problems) - MAX_PROBLEMS} more; --json lists all")
    for warning in report.warnings:
        console.print(f"[yellow]warning[/]       {warning}")
    for note in report.notes:
        console.print(f"note          {note}")


def rows(report: "Report") -> list[tuple[str, str]]:
    """(name, value) of everything that is always known."""
    size = "not tied to one" if report.image_size is None else "x".join(str(n) for n in report.image_size)
    options = ", ".join(
        f"{key}={value}" for key, value in report.options.items() if key not in ("in_chans", "img_size")
    )
    tensors = report.tensors
    found = [
        ("file", f"{report.file} ({report.bytes / 2**20:.1f} MiB, {report.format})"),
        ("sha256", report.sha256),
        ("source", report.title + (f", behind {report.prefix!r}" if report.prefix else "")),
        ("architecture", report.architecture + (f" with {options}" if options else "")),
        ("resolution", size),
        ("classes", str(report.num_classes or "none (features only)")),
        ("channels", str(report.in_chans)),
        ("parameters", f"{report.parameters:,}"),
        ("weights", ", ".join(f"{name} ({count} tensors)" for name, count in report.sets.items())),
        ("types", ", ".join(f"{kind} ({count})" for kind, count in report.dtypes.items())),
        (
            "tensors",
            f"{tensors['file']} in the file: {tensors['used']} used, {tensors['dropped']} dropped by name; "
            f"{tensors['model']} in the model, {tensors['filled']} of them not in the file",
        ),
    ]
    if report.beside:
        found.append(("beside", ", ".join(f"{name}: {what}" for name, what in report.beside.items())))
    return found
