"""hybridvit explain: maps of what a checkpoint looks at, laid on pictures."""

import argparse
import sys
from pathlib import Path

from hybridvit.cli.options import METHODS, add, chosen

HELP = """Draw what CHECKPOINT looks at in pictures, or in all pictures below a folder. attention: the weights of one
block; rollout: attention followed through all blocks; gradcam, gradients, occlusion: what speaks for a class."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "checkpoint", "pictures", "--root", "--columns")
    how = "several are drawn side by side (default: attention)"
    add(parser, "--method", choices=METHODS, nargs="+", default=[], help=how)
    add(parser, "--query", metavar=("X", "Y"), nargs=2)
    add(parser, "--stage", "--block", "--head")
    what = "gradcam, gradients, occlusion: name or number (default: the answer)"
    add(parser, "--class", metavar="NAME", dest="label", help=what)
    extra = parser.add_mutually_exclusive_group()
    add(extra, "--heads", action="store_const", const="heads", dest="every", help="draw every head of the block")
    add(extra, "--stages", action="store_const", const="stages", dest="every", help="draw every stage, side by side")
    add(extra, "--compare", metavar="CHECKPOINT", type=Path, help="draw a second model beside the first")
    add(parser, "--arrays", action="store_true", help="also write the maps, on the picture's pixels, as .npz")
    add(parser, "--out", metavar="DIR", type=Path, default=Path("explanations"), help="where to")
    add(parser, "--device")


def run(args: argparse.Namespace) -> int:
    from hybridvit.attribution.files import draw_files
    from hybridvit.data.unlabelled import open_unlabelled
    from hybridvit.runtime import pick_device
    from hybridvit.weights.load import load

    device = pick_device(args.device)
    files = [path for path in (args.checkpoint, args.compare) if path]
    distinct = len({path.stem for path in files}) == len(files)  # best.safetensors of two runs is told by its path
    pictures = open_unlabelled(args.pictures, root=args.root, columns=args.columns)
    print(pictures.counts, file=sys.stderr)
    drawn = draw_files(
        {path.stem if distinct else str(path): load(path, device=device) for path in files},
        pictures,
        args.out,
        methods=args.method or ["attention"],
        **chosen(args, "query", "stage", "block", "head", "label", "every", "arrays"),
    )
    for file, first in drawn:
        answer, share = first.top(1)[0]
        print(f"{file}  {answer} {100 * share:.1f} %")
    return 0
