"""hybridvit export: a checkpoint as a file for another runtime."""

import argparse
from pathlib import Path

from hybridvit.cli.options import add, chosen
from hybridvit.deploy.formats import PRECISIONS, SUFFIXES
from hybridvit.errors import ConfigError
from hybridvit.output import to_json

HELP = """Write CHECKPOINT for onnxruntime, OpenVINO, torch.export or AOTInductor, load the file in that runtime and
compare its answers with the plain model's. The file takes batches of any size and carries preprocessing and class
names. Exit code 1: the file was written, and its answers differ."""
PICTURES = "pictures, folders or archives of them to compare on, and to calibrate int8 on (default: smooth noise)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "checkpoint")
    add(parser, "--to", choices=tuple(SUFFIXES), help="the format (default: what the suffix of --out says)")
    add(parser, "--out", metavar="FILE", type=Path, help="where to (default: beside the checkpoint)")
    add(parser, "--image-size", nargs="+", help="pixels, or rows and columns (default: the checkpoint's)")
    add(parser, "--dynamic-size", action="store_true", help="also take other sizes, of at least 64 pixels")
    precisions = tuple(dict.fromkeys(name for names in PRECISIONS.values() for name in names))
    add(parser, "--precision", choices=precisions, default="fp32", help="of the weights")
    add(parser, "--pictures", metavar="PATH", nargs="+", type=Path, default=None, help=PICTURES)
    add(parser, "--max-pictures", "--json")


def run(args: argparse.Namespace) -> int:
    from hybridvit.deploy.exported import export_file

    if args.image_size and len(args.image_size) > 2:
        raise ConfigError(f"--image-size takes one or two numbers, found {len(args.image_size)}.")
    found = export_file(
        args.checkpoint,
        args.out,
        image_size=(args.image_size[0], args.image_size[-1]) if args.image_size else None,
        any_size=args.dynamic_size,
        **chosen(args, "to", "precision", "pictures", "max_pictures"),
    )
    print(to_json(found.to_dict()) if args.json else found)
    return 0 if found.report.passed else 1
