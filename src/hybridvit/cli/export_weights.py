"""hybridvit export-weights: one of our checkpoints in a published implementation's own format."""

import argparse
from pathlib import Path

HELP = "Write a checkpoint in the format of a published implementation that computes as the model does."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="a checkpoint of ours")
    parser.add_argument("--to", metavar="SOURCE", required=True, help=f"one of {', '.join(NAMES)}")
    parser.add_argument("out", metavar="OUT", type=Path, help="the file to write")


# As in weights/sources, which is not imported for --help.
NAMES = ("microsoft", "transformers", "paddlevit", "paddleclas", "huawei", "flyegle", "kecam", "kecam-own", "mindcv")


def run(args: argparse.Namespace) -> int:
    import difflib

    from hybridvit.errors import ConfigError
    from hybridvit.weights.convert import export_weights

    if args.to not in NAMES:
        near = difflib.get_close_matches(args.to, NAMES, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"--to {args.to}: no such source.{hint} Known: {', '.join(NAMES)}.")
    for note in export_weights(args.checkpoint, args.to, args.out):
        print(f"note  {note}")
    print(f"Wrote {args.out}.")
    return 0
