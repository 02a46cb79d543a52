"""What predict and embed share: any number of pictures become a folder of Parquet files."""

import argparse
import sys
from pathlib import Path
from typing import Any

from hybridvit.cli.options import add, chosen, refuse

OPTIONS = ("--piece-size", "--piece", "--on", "--actors", "--gpus-per-actor")


def add_arguments(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    group = parser.add_argument_group("any number of pictures")
    add(group, "--out", metavar="DIR", type=Path, required=required, help="a folder for Parquet files, one per piece")
    add(group, "--piece-size")
    add(group, "--piece", metavar="K/N", type=_share, help="compute every N-th piece, from the K-th (from 1) on")
    add(group, "--on", choices=("ray",), help="let a Ray cluster compute: RAY_ADDRESS, or else this machine")
    add(group, "--actors", "--gpus-per-actor")


def run(args: argparse.Namespace, **options: Any) -> int:
    from hybridvit.cli.progress import progress
    from hybridvit.cli.table import show
    from hybridvit.inference.predict import predict

    if args.on == "ray":
        from hybridvit.inference.on_ray import on_ray

        options["launcher"] = on_ray(actors=args.actors or 1, gpus_per_actor=args.gpus_per_actor or 0)
    else:
        refuse(args, "--actors", "--gpus-per-actor", because="it is for --on ray")
    options |= {"piece_size": args.piece_size} if args.piece_size else {}
    options |= {"share": args.piece} if args.piece else {}
    options |= chosen(args, "out", "root", "columns", "device", "batch_size", "workers")
    with progress("predicting") as advance:
        options["on_progress"] = lambda p: advance(p.pieces, p.of, str(p))
        written = predict(args.model, args.pictures, **options)
    show(written)
    broken = written.counts["broken"] if written.counts else written.broken
    if broken:
        print("Why pictures could not be read stands in the column error, where ok is false.", file=sys.stderr)
    return 1 if broken or written.failed else 0


def _share(text: str) -> tuple[int, int]:
    k, _, n = text.partition("/")
    if not (k.isdecimal() and n.isdecimal() and 1 <= int(k) <= int(n)):
        raise argparse.ArgumentTypeError(f"expected K/N with K from 1 to N, found {text[:40]!r}")
    return int(k), int(n)
