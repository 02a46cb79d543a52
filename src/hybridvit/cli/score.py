"""hybridvit score: every figure again, from files of logits alone."""

import argparse
from pathlib import Path

HELP = (
    "Recompute all that `hybridvit eval` says from the logits it saved with --logits. Of several files, about the same "
    "pictures, the mean probability is judged."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from hybridvit.cli.eval import add_real

    parser.add_argument(
        "files", metavar="FILE", type=Path, nargs="+", help="a .npz that `hybridvit eval --logits` wrote"
    )
    add_real(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    from hybridvit.cli.eval import show_result
    from hybridvit.evaluate.logits import load_logits
    from hybridvit.evaluate.views import ensemble

    names = [str(path) for path in args.files]
    results = [load_logits(path) for path in args.files]
    result = ensemble(results, names) if len(results) > 1 else results[0]
    return show_result(result, {"logits": ", ".join(names)}, real=args.real, as_json=args.json)
