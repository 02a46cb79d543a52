"""hybridvit inspect: what a weights file is, and where two of them part."""

import argparse
from pathlib import Path

from hybridvit.cli.options import add, chosen, refuse

HELP = """Say what a weights file is: who wrote it, which model, what lies in it, what looks wrong. Runs nothing in
it. With a second file both run on the same pictures, and where they part is shown: in their weights, in each layer's
output in evaluation and in training mode, in each parameter's gradient. Either may be golden answers: NAME.json with
NAME.npz beside it. Exit code 1: tensors do not fit, or the two part."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "file", metavar="FILE", type=Path, help="any published checkpoint, or one of ours")
    add(parser, "other", metavar="OTHER", type=Path, nargs="?", help="another, or golden answers (.json)")
    add(parser, "--weights", "--architecture")
    add(parser, "--images", metavar="DIR", type=Path, help="of two files: run on its first 8 pictures (default: noise)")
    add(parser, "--dtype", choices=["float64", "float32"], help="of two files: compute in it (default: float64)")
    add(parser, "--tolerance", "--json")


def run(args: argparse.Namespace) -> int:
    from hybridvit.cli.progress import progress
    from hybridvit.cli.table import tell
    from hybridvit.compare.files import align_files
    from hybridvit.weights.load import inspect

    if args.other:
        refuse(args, "--weights", "--architecture", because="two files are compared as they are")
        how = chosen(args, "images", "tolerance")
        found = align_files(args.file, args.other, dtype=args.dtype or "float64", **how)
        tell(found, as_json=args.json)
        return 0 if found.aligned else 1
    refuse(args, "--images", "--dtype", "--tolerance", because="they are for two files, to be compared")
    with progress("tensors") as advance:
        report = inspect(args.file, progress=advance, **chosen(args, "weights", "architecture"))
    tell(report, as_json=args.json)
    return 1 if report.problems else 0
