"""hybridvit embed: features of pictures, for search, clusters and small classifiers."""

import argparse
from pathlib import Path

from hybridvit.cli import pieces
from hybridvit.cli.options import add

HELP = """Write the features of pictures, pooled, below the classifier, as Parquet files: columns path, ok, error, features. The
same command goes on after any interruption (docs/scale.md). Exit code 1: some could not be read; their rows say why."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "model", metavar="CHECKPOINT", type=Path, help="weights")
    add(parser, "pictures", "--root", "--columns", "--batch")
    add(parser, "--workers", default=0)
    add(parser, "--device")
    pieces.add_arguments(parser, required=True)


def run(args: argparse.Namespace) -> int:
    return pieces.run(args, give="features")
