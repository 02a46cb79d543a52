"""hybridvit models: every architecture there is, and its published weights."""

import argparse

from hybridvit.cli.options import add

HELP = """List the architectures: size of the pictures they are published for, parameters (with 1000 classes),
multiply-accumulates, published ImageNet-1k top-1, source; and the published weights of each."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "pattern", metavar="PATTERN", nargs="?", default="*", help="only these names: 'cmt_*'")
    kinds, what = ("classification", "detection", "segmentation"), "or the detectors, or segmenters, that stand on them"
    add(parser, "--task", choices=kinds, default="classification", help=what)
    add(parser, "--json")


def run(args: argparse.Namespace) -> int:
    from hybridvit.cli.table import tell
    from hybridvit.weights.listing import list_all

    tell(list_all(args.pattern, task=args.task), as_json=args.json)
    return 0
