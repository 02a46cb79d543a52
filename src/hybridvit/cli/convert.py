"""hybridvit convert: any published checkpoint to a checkpoint of ours."""

import argparse
from pathlib import Path

HELP = "Turn any published CvT or CMT checkpoint into one of ours, and account for every tensor in it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="any published checkpoint, or one of ours")
    parser.add_argument("out", metavar="OUT", type=Path, help="the checkpoint to write, NAME.safetensors")
    parser.add_argument(
        "--weights", choices=("raw", "ema"), help="which set of weights (default: ema where there is one)"
    )
    parser.add_argument("--num-classes", metavar="N", type=int, help="another number of classes; needs --new-head")
    parser.add_argument("--new-head", action="store_true", help="drop the file's classifier for an untrained one")
    parser.add_argument(
        "--image-size", metavar=("H", "W"), type=int, nargs=2, help="resize position tables to pictures of this size"
    )
    parser.add_argument("--in-chans", metavar="N", type=int, help="another number of input channels")
    parser.add_argument(
        "--arithmetic",
        choices=("authors",),
        help="compute as the authors do, not as the file's source does: right for microsoft/cvt-* from the hub",
    )
    parser.add_argument("--architecture", metavar="NAME", help="for files with our own names, which do not tell it")


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from hybridvit.cli.inspect import show
    from hybridvit.cli.progress import progress
    from hybridvit.weights.convert import convert

    with progress("tensors") as advance:
        report = convert(
            args.file,
            args.out,
            weights=args.weights,
            num_classes=args.num_classes,
            new_head=args.new_head,
            image_size=tuple(args.image_size) if args.image_size else None,
            in_chans=args.in_chans,
            arithmetic=args.arithmetic,
            architecture=args.architecture,
            progress=advance,
        )
    show(report, Console(highlight=False, soft_wrap=True))
    print(f"Wrote {args.out}. Judge it: hybridvit eval {args.out} --data DIR")
    return 0
