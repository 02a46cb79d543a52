"""hybridvit score: every figure again, from a file of logits alone."""

import argparse
from pathlib import Path

HELP = "Recompute all that `hybridvit eval` says from the logits it saved with --logits."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="a .npz with logits, labels, paths and class_names")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    from hybridvit.cli.eval import show_result
    from hybridvit.evaluate.logits import load_logits

    return show_result(load_logits(args.file), {"logits": args.file}, as_json=args.json)
