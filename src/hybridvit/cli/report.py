"""hybridvit report: one page that says how good a model is, and shows where it is not."""

import argparse
from pathlib import Path

from hybridvit.cli.explain import METHODS

HELP = (
    "Judge CHECKPOINT on DIR/test/CLASS/*.jpg (or val, or DIR/CLASS/*.jpg) and write one HTML file that needs no network: score, "
    "calibration, confusion, classes, telling pictures with maps, size and speed, origin."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="a .safetensors file of `hybridvit train`")
    parser.add_argument(
        "--data", metavar="DIR", type=Path, required=True, help="folder with test/ or class folders, list, .zip ..."
    )
    parser.add_argument(
        "--root", metavar="DIR", type=Path, help="where the paths of a list file start (default: beside it)"
    )
    parser.add_argument(
        "--val-split", metavar="SHARE", type=float, default=0.0, help="judge on the share that training held out"
    )
    parser.add_argument("--out", metavar="FILE", type=Path, help="default: CHECKPOINT with the ending .html")
    parser.add_argument("--method", choices=METHODS, default="occlusion", help="of the maps (default: occlusion)")
    parser.add_argument("--pictures", metavar="N", type=int, default=6, help="best, worst, doubtful each (default: 6)")
    parser.add_argument("--batch", metavar="N", type=int, default=64, help="pictures at a time (default: 64)")
    parser.add_argument("--workers", metavar="N", type=int, default=2, help="processes that decode (default: 2)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps (default: the best there is)")


def run(args: argparse.Namespace) -> int:
    from typing import Any

    from hybridvit.attribution.report import about_checkpoint, build_report
    from hybridvit.cli.progress import progress
    from hybridvit.data.loader import eval_loader
    from hybridvit.data.opening import open_test
    from hybridvit.errors import ConfigError
    from hybridvit.evaluate.classes import align
    from hybridvit.evaluate.page import save_page
    from hybridvit.evaluate.run import evaluate
    from hybridvit.runtime import pick_device
    from hybridvit.weights import checkpoint

    if args.pictures < 0:
        raise ConfigError(f"--pictures must be at least 0, found {args.pictures}.")
    model: Any = checkpoint.load(args.checkpoint, device=pick_device(args.device))
    data_name, found = open_test(args.data, root=args.root, val_split=args.val_split)
    source = align(
        found,
        model.label_names,
        num_classes=model.num_classes,
        model_name=str(args.checkpoint),
        data_name=data_name,
    )
    loader = eval_loader(source, preprocess=model.preprocess, batch_size=args.batch, workers=args.workers)
    with progress("evaluating", total=len(source)) as advance:
        result = evaluate(model, loader, on_batch=advance)
    with progress("explaining", total=min(3 * args.pictures, len(source))) as advance:
        html = build_report(
            model,
            result,
            source,
            title=f"{args.checkpoint.stem}, a {model.architecture}",
            data_name=data_name,
            about=about_checkpoint(args.checkpoint, checkpoint.read(args.checkpoint)),
            method=args.method,
            count=args.pictures,
            on_picture=advance,
        )
    out = args.out or args.checkpoint.with_suffix(".html")
    save_page(out, html)
    print(f"{out}  top-1 {result.metrics.top1:.2f} % of {result.metrics.images} pictures")
    return 1 if result.broken else 0
